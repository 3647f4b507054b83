"""`undrift replay`: what a drift policy makes of a recorded or a labelled stream, offline."""
