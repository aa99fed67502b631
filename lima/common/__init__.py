"""What every part uses and no part owns: time, paths, money, locks, temporary folders."""
