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
    """CREATE TABLE IF NOT EXISTS claims (
        annotator TEXT NOT NULL REFERENCES annotators, turn INTEGER NOT NULL,
        position INTEGER NOT NULL REFERENCES entries,
        PRIMARY KEY (annotator, turn), UNIQUE (annotator, position)) STRICT""",
    """CREATE TABLE IF NOT EXISTS events (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE,
        annotator TEXT NOT NULL, turn INTEGER NOT NULL, event TEXT NOT NULL,
        supersedes TEXT UNIQUE REFERENCES events (event_id), answers TEXT NOT NULL,
        comment TEXT NOT NULL, started_at TEXT, ended_at TEXT NOT NULL,
        FOREIGN KEY (annotator, turn) REFERENCES claims) STRICT""",
    "CREATE INDEX IF NOT EXISTS events_of ON events (annotator, turn)",
    # With `supersedes` unique, events of a claim form one chain, whoever writes at once.
    """CREATE UNIQUE INDEX IF NOT EXISTS first_events ON events (annotator, turn)
        WHERE supersedes IS NULL""",
    # What each claim stands at: the event that nothing supersedes.
    """CREATE VIEW IF NOT EXISTS states AS
        SELECT claims.annotator, claims.turn, claims.position, last.sequence, last.event_id,
            last.event, coalesce(last.event, 'undone') <> 'undone' AS decided
        FROM claims LEFT JOIN events AS last ON last.sequence = (
            SELECT max(sequence) FROM events
            WHERE annotator = claims.annotator AND turn = claims.turn)""",
    # Taken for good: shared entries by their annotator, others by whoever has not left.
    """CREATE VIEW IF NOT EXISTS taken AS
        SELECT states.position FROM states
        JOIN entries USING (position) JOIN annotators ON annotators.name = states.annotator
        WHERE NOT shared AND (decided OR NOT revoked)""",
)
OPEN = """SELECT turn, shown FROM states JOIN entries USING (position)
    WHERE annotator = ? AND NOT decided ORDER BY turn LIMIT 1"""
_FREE = """FROM entries WHERE position NOT IN (
        SELECT position FROM claims WHERE annotator = :annotator)
    AND (shared OR position NOT IN (SELECT position FROM taken))"""
FREE = f"SELECT position {_FREE} ORDER BY shared DESC, position LIMIT 1"
CLAIM = """INSERT INTO claims SELECT :annotator, 1 + coalesce(max(turn), 0), :position
    FROM claims WHERE annotator = :annotator"""
DONE = "SELECT count(*) FROM states WHERE annotator = :annotator AND decided"
LEFT = f"""SELECT (SELECT count(*) {_FREE}) + (
    SELECT count(*) FROM states WHERE annotator = :annotator AND NOT decided)"""
LAST = """SELECT turn FROM states WHERE annotator = :annotator AND decided
    ORDER BY sequence DESC LIMIT 1"""
LATEST = "SELECT event_id, event FROM states WHERE annotator = ? AND turn = ?"
ADD = """INSERT INTO events (event_id, annotator, turn, event, supersedes, answers, comment,
    started_at, ended_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
EVENTS = """SELECT events.*, entries.row, annotators.role FROM events
    JOIN claims USING (annotator, turn) JOIN entries USING (position)
    JOIN annotators ON annotators.name = events.annotator ORDER BY sequence"""
