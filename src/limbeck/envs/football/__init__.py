"""Google Research Football: academy scenarios, played by the real engine in worker processes. Imports nothing by itself."""
