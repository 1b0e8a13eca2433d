"""``istioctl bug-report``: what somebody needs who looks for a fault of a mesh that he cannot reach (row U8)."""
