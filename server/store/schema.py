"""The tables. A database knows by its user_version how many of these steps it has taken; steps are only ever added."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE users (
            tenant_id TEXT NOT NULL,
            user_id TEXT NOT NULL,
            password_hash TEXT,
            scram_credential TEXT,
            attributes TEXT NOT NULL DEFAULT '{}',
            is_enabled INTEGER NOT NULL DEFAULT 1,
            changed_at_s INTEGER NOT NULL,
            PRIMARY KEY (tenant_id, user_id)
        ) WITHOUT ROWID""",
        """CREATE TABLE rules (
            rule_id INTEGER PRIMARY KEY AUTOINCREMENT,
            position INTEGER NOT NULL,
            effect TEXT NOT NULL,
            actions TEXT NOT NULL,
            topic_filter TEXT NOT NULL,
            tenant_id TEXT,
            user_id TEXT,
            client_id TEXT,
            max_qos INTEGER NOT NULL DEFAULT 2,
            retain INTEGER NOT NULL DEFAULT 1
        )""",
        "CREATE INDEX rules_in_order ON rules (position, rule_id)",
        "CREATE INDEX rules_of_tenant ON rules (tenant_id, position, rule_id)",
        """CREATE TABLE settings (
            tenant_id TEXT NOT NULL,
            name TEXT NOT NULL,
            value TEXT NOT NULL,
            PRIMARY KEY (tenant_id, name)
        ) WITHOUT ROWID""",
        """CREATE TABLE api_keys (
            key_id TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            digest BLOB NOT NULL UNIQUE,
            role TEXT NOT NULL,
            tenant_id TEXT,
            created_at_s INTEGER NOT NULL,
            expires_at_s INTEGER
        ) WITHOUT ROWID""",
        """CREATE TABLE bans (
            ban_id INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL,
            tenant_id TEXT NOT NULL,
            value TEXT NOT NULL,
            reason TEXT NOT NULL DEFAULT '',
            created_at_s INTEGER NOT NULL,
            expires_at_s INTEGER,
            UNIQUE (kind, tenant_id, value)
        )""",
        """CREATE TABLE audit (
            entry_id INTEGER PRIMARY KEY AUTOINCREMENT,
            at_s INTEGER NOT NULL,
            actor TEXT NOT NULL,
            action TEXT NOT NULL,
            tenant_id TEXT,
            target TEXT NOT NULL DEFAULT '',
            detail TEXT NOT NULL DEFAULT '{}'
        )""",
        "CREATE INDEX audit_of_tenant ON audit (tenant_id, entry_id)",
    ),
    ("CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",),
)
