"""The real game's door: worlds that wrap SMAC or whatever speaks its interface. This package imports nothing by itself."""
