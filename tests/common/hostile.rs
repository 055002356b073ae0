//! Texts that break programs which are not ready for them.

/// Each is good in a field's name and value; some are refused elsewhere, by a documented rule.
pub const TEXTS: [(&str, &str); 28] = [
    ("empty", ""),
    ("a blank", " "),
    ("blanks", " \u{a0}\u{3000}\u{2003} "),
    ("lines", "\r\n\t\n\r"),
    ("NUL", "a\0b"),
    ("only NUL", "\0"),
    ("control characters", "\u{1}\u{8}\u{7f}\u{80}\u{85}"),
    ("quotes", "'\"`''\"\"\\'\\\""),
    ("SQL", "'; DROP TABLE organizations; --"),
    ("placeholders", "$1 ? %s {} {0} :name @p"),
    ("JSON", "{\"a\": null, \"b\": [1]}"),
    ("a comma and a formula", "=1+1,\"@SUM(A1)\""),
    ("backslashes", "\\u0000 \\x00 \\"),
    ("a path", "../../etc/passwd"),
    ("an option", "--output=json"),
    ("null", "null"),
    ("a number", "1e309"),
    ("right to left", "\u{202e}buhtig\u{202c}"),
    ("isolates", "\u{2066}a\u{2069}\u{200f}\u{61c}"),
    ("separators", "a\u{2028}b\u{2029}c"),
    ("Arabic and Hebrew", "مرحبا שלום"),
    ("emoji", "👩\u{200d}🚀🏳\u{fe0f}\u{200d}🌈"),
    ("combining", "e\u{301}\u{489}\u{489}"),
    ("composed otherwise", "\u{e9}\u{489}\u{489}"),
    ("no character", "\u{ffff}\u{fffe}\u{fdd0}"),
    ("the last ones", "\u{10ffff}\u{e000}\u{d7ff}"),
    ("a byte order mark", "\u{feff}a\u{fffd}"),
    ("terminal escapes", "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m"),
];

/// Whether a character would do something to a terminal or the order of what it shows, besides ending a line.
pub fn steers(c: char) -> bool {
    let turns = "\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}";
    (c.is_control() && c != '\n') || turns.contains(c)
}
