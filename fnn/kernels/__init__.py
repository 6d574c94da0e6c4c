"""Nothing here changes what is computed, only how fast."""
