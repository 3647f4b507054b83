"""The demo: real labelled streams with drift, driven through HTTP."""
