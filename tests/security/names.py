"""Names that are SQL, paths, formats, markup or orders to a terminal; and those that nothing can have."""

NASTY = [
    'x"; drop table mentions; --',
    "x'; delete from mentions; --",
    ") as x; commit; drop table reviews; select * from (select 1 as review_id, 2 as text",
    "mentions; select",
    "../../etc/passwd",
    "%(x)s %s %% %",
    "{x} {0.__class__} ${HOME}",
    "a\nb",
    "“x” ‘y’ ＂; --",
    "--",
    "$(touch made) `touch made` | touch made",
    "<img src=x onerror=alert(1)>|`[x](y)",
    "\x1b]0;made\x07\u202e",
    ":x \\: \\",
    "[",
]
IMPOSSIBLE = ["a\0b", "n" * 300, "n" * 5000, "\udcff"]
