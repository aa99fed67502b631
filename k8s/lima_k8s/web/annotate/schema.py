"""The tables of the store of labels, and what is asked of them."""

FORMAT = 1
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    """CREATE TABLE IF NOT EXISTS entries (
        position INTEGER PRIMARY KEY, shared INTEGER NOT NULL, shown TEXT NOT NULL,
        row TEXT NOT NULL) STRICT""",
    """CREATE TABLE IF NOT EXISTS annotators (
        name TEXT PRIMARY KEY, role TEXT NOT NULL, secret TEXT NOT NULL UNIQUE,
        revoked INTEGER NOT NULL DEFAULT 0) STRICT""",
    # `last` is the event that nothing supersedes, `decided` what it says: both follow from
    # `events`, and are written with them.
    """CREATE TABLE IF NOT EXISTS claims (
        annotator TEXT NOT NULL REFERENCES annotators, turn INTEGER NOT NULL,
        position INTEGER NOT NULL REFERENCES entries,
        last INTEGER, decided INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (annotator, turn), UNIQUE (annotator, position)) STRICT""",
    "CREATE INDEX IF NOT EXISTS claims_at ON claims (position)",
    "CREATE INDEX IF NOT EXISTS entries_in_order ON entries (shared DESC, position)",
    """CREATE TABLE IF NOT EXISTS events (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE,
        annotator TEXT NOT NULL, turn INTEGER NOT NULL, event TEXT NOT NULL,
        supersedes TEXT UNIQUE REFERENCES events (event_id), answers TEXT NOT NULL,
        comment TEXT NOT NULL, started_at TEXT, ended_at TEXT NOT NULL,
        FOREIGN KEY (annotator, turn) REFERENCES claims) STRICT""",
    # With `supersedes` unique, events of a claim form one chain, whoever writes at once.
    """CREATE UNIQUE INDEX IF NOT EXISTS first_events ON events (annotator, turn)
        WHERE supersedes IS NULL""",
)
OPEN = """SELECT turn, shown FROM claims JOIN entries USING (position)
    WHERE annotator = ? AND NOT decided ORDER BY turn LIMIT 1"""
# Taken for good: shared entries by their annotator, others by whoever has not left.
_FREE = """FROM entries AS entry WHERE NOT EXISTS (
        SELECT 1 FROM claims WHERE annotator = :annotator AND position = entry.position)
    AND (shared OR NOT EXISTS (
        SELECT 1 FROM claims JOIN annotators ON name = annotator
        WHERE position = entry.position AND (decided OR NOT revoked)))"""
FREE = f"SELECT position {_FREE} ORDER BY shared DESC, position LIMIT 1"
CLAIM = """INSERT INTO claims (annotator, turn, position)
    SELECT :annotator, 1 + coalesce(max(turn), 0), :position
    FROM claims WHERE annotator = :annotator"""
DONE = "SELECT count(*) FROM claims WHERE annotator = :annotator AND decided"
LEFT = f"""SELECT (SELECT count(*) {_FREE}) + (
    SELECT count(*) FROM claims WHERE annotator = :annotator AND NOT decided)"""
LAST = """SELECT turn FROM claims WHERE annotator = :annotator AND decided
    ORDER BY last DESC LIMIT 1"""
LATEST = """SELECT event_id, decided FROM claims LEFT JOIN events ON sequence = last
    WHERE claims.annotator = ? AND claims.turn = ?"""
ADD = """INSERT INTO events (event_id, annotator, turn, event, supersedes, answers, comment,
    started_at, ended_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
STAND = "UPDATE claims SET last = ?, decided = ? WHERE annotator = ? AND turn = ?"
EVENTS = """SELECT events.*, entries.row, annotators.role FROM events
    JOIN claims USING (annotator, turn) JOIN entries USING (position)
    JOIN annotators ON annotators.name = events.annotator ORDER BY sequence"""
