"""The insides of the analysis commands under tools/."""
