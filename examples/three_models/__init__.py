"""One service, called through each place that a load balancer can have."""
