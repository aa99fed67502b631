"""Labelling by people: a local store, invitations, and the web app in front of them."""
