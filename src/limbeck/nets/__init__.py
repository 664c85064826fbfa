"""Networks for one agent and one decision; leading axes pass through, `unroll` adds time."""
