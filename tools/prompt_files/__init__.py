"""Prompts into the form that slime reads: reading -> records -> shards -> writing (with the index)."""
