"""What runs on this machine: Ray, the load balancer, the process in the background."""
