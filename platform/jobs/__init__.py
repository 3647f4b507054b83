"""The platform on a Ray cluster that runs already, by a job."""
