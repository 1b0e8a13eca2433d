"""What ``proxy-config`` shows of each kind of resource: filters, rows and their order, as istioctl has them. Pure."""
