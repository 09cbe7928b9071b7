"""Each analysis as flat rows of a table; a row without a number says why in `note`."""
