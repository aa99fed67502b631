"""Pages for people: chat, picking, labelling."""
