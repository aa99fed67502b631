"""What a cluster would refuse, judged before it is asked."""
