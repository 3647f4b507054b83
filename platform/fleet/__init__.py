"""Several models on one platform: started, changed and removed while the others serve."""
