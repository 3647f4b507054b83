"""`undrift tune`: searches settings over recorded history by replay, with the evidence."""
