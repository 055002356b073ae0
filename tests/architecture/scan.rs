//! Rust source as tokens, comments and test code taken out: as much of a parser as the rules need.

/// A token and the line it begins on, counted from 1.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) line: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Ident(String),
    /// The contents of a string literal of any sort, as written between the quotes.
    Text(String),
    /// One character, or one of the operators in [`OPERATORS`].
    Sign(String),
    /// A number, a character or a lifetime: no rule looks at them.
    Other,
}

const OPERATORS: [&str; 7] = ["::", "==", "!=", "<=", ">=", "->", "=>"];

impl Token {
    pub(crate) fn is(&self, sign: &str) -> bool {
        matches!(&self.kind, Kind::Sign(text) if text == sign)
    }

    pub(crate) fn ident(&self) -> Option<&str> {
        match &self.kind {
            Kind::Ident(name) => Some(name),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// The tokens of `source`, without comments.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let mut scanner = Scanner { chars, at: 0, line: 1 };
    let mut tokens = Vec::new();
    while scanner.at < scanner.chars.len() {
        let line = scanner.line;
        if let Some(kind) = scanner.next() {
            tokens.push(Token { kind, line });
        }
    }
    tokens
}

struct Scanner {
    chars: Vec<char>,
    at: usize,
    line: usize,
}

impl Scanner {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn advance(&mut self, count: usize) {
        for _ in 0..count {
            if self.peek(0) == '\n' {
                self.line += 1;
            }
            self.at += 1;
        }
    }

    fn ended(&self) -> bool {
        self.at >= self.chars.len()
    }

    /// The next token; `None` after white space or a comment.
    fn next(&mut self) -> Option<Kind> {
        let first = self.peek(0);
        match (first, self.peek(1)) {
            ('/', '/') => self.line_comment(),
            ('/', '*') => self.block_comment(),
            ('"', _) => return Some(self.quoted()),
            ('\'', _) => return Some(self.char_or_lifetime()),
            _ if first.is_whitespace() => self.advance(1),
            _ if is_word(first) => return Some(self.word()),
            (_, second) => {
                let pair = format!("{first}{second}");
                let sign = if OPERATORS.contains(&pair.as_str()) { pair } else { first.to_string() };
                self.advance(sign.chars().count());
                return Some(Kind::Sign(sign));
            }
        }
        None
    }

    fn line_comment(&mut self) {
        while !self.ended() && self.peek(0) != '\n' {
            self.advance(1);
        }
    }

    /// Block comments nest.
    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        loop {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => depth += 1,
                ('*', '/') => depth -= 1,
                _ => {
                    self.advance(1);
                    if self.ended() {
                        return;
                    }
                    continue;
                }
            }
            self.advance(2);
            if depth == 0 {
                return;
            }
        }
    }

    fn quoted(&mut self) -> Kind {
        self.advance(1);
        let mut text = String::new();
        while !self.ended() && self.peek(0) != '"' {
            let length = if self.peek(0) == '\\' { 2 } else { 1 };
            text.extend((0..length).map(|ahead| self.peek(ahead)));
            self.advance(length);
        }
        self.advance(1);
        Kind::Text(text)
    }

    fn raw_string(&mut self, hashes: usize) -> Kind {
        self.advance(hashes + 1);
        let mut text = String::new();
        while !self.ended() {
            if self.peek(0) == '"' && (1..=hashes).all(|ahead| self.peek(ahead) == '#') {
                break;
            }
            text.push(self.peek(0));
            self.advance(1);
        }
        self.advance(hashes + 1);
        Kind::Text(text)
    }

    fn char_or_lifetime(&mut self) -> Kind {
        if self.peek(1) == '\\' {
            self.advance(3); // the quote, the backslash and what it escapes, which may be a quote
            while !self.ended() && self.peek(0) != '\'' {
                self.advance(1);
            }
            self.advance(1);
        } else if self.peek(2) == '\'' {
            self.advance(3);
        } else {
            self.advance(1);
            while is_word(self.peek(0)) {
                self.advance(1);
            }
        }
        Kind::Other
    }

    /// An identifier, a number, or a literal with a prefix such as `br#"`.
    fn word(&mut self) -> Kind {
        let mut word = String::new();
        while is_word(self.peek(0)) {
            word.push(self.peek(0));
            self.advance(1);
        }
        if matches!(word.as_str(), "r" | "br" | "cr") {
            let hashes = (0..).take_while(|&ahead| self.peek(ahead) == '#').count();
            if self.peek(hashes) == '"' {
                return self.raw_string(hashes);
            }
            if hashes == 1 {
                self.advance(1); // r#type: the same name as `type`
                return self.word();
            }
        }
        match (word.as_str(), self.peek(0)) {
            ("b" | "c", '"') => self.quoted(),
            ("b", '\'') => self.char_or_lifetime(),
            _ if word.starts_with(|first: char| first.is_ascii_digit()) => Kind::Other,
            _ => Kind::Ident(word),
        }
    }
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// `tokens` without what is compiled for tests only, and the names of the modules in other files left out with it
/// (`#[cfg(test)] mod name;`).
pub(crate) fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    let (mut kept, mut modules) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        let inner = tokens[at].is("#") && tokens.get(at + 1).is_some_and(|next| next.is("!"));
        let bracket = at + 1 + usize::from(inner);
        let is_attribute = tokens[at].is("#") && tokens.get(bracket).is_some_and(|next| next.is("["));
        if !is_attribute || !is_test_only(&tokens[bracket..closing(tokens, bracket)]) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        if inner {
            return (Vec::new(), modules);
        }
        let end = item_end(tokens, closing(tokens, bracket) + 1);
        if let [.., keyword, name, last] = &tokens[at..end]
            && keyword.ident() == Some("mod")
            && last.is(";")
        {
            modules.extend(name.ident().map(String::from));
        }
        at = end;
    }
    (kept, modules)
}

/// Whether an attribute reads `cfg(test)` or `cfg(all(test, …))`: what `any` or `not` is built for users as well.
fn is_test_only(attribute: &[Token]) -> bool {
    let names: Vec<&str> = attribute.iter().filter_map(Token::ident).collect();
    names.first() == Some(&"cfg")
        && names.contains(&"test")
        && !names.contains(&"any")
        && !names.contains(&"not")
}

/// One past the item, statement or field at `start`, which may have more attributes of its own.
fn item_end(tokens: &[Token], start: usize) -> usize {
    let mut at = start;
    let mut angles = 0_usize;
    while at < tokens.len() {
        let token = &tokens[at];
        if token.is("#") && tokens.get(at + 1).is_some_and(|next| next.is("[")) {
            at = closing(tokens, at + 1);
        } else if token.is("(") || token.is("[") {
            at = closing(tokens, at);
        } else if token.is("{") {
            return (closing(tokens, at) + 1).min(tokens.len());
        } else if token.is(";") || (token.is(",") && angles == 0) {
            return at + 1;
        } else if token.is("}") || token.is(")") || token.is("]") {
            return at;
        } else if token.is("<") {
            angles += 1;
        } else if token.is(">") {
            angles = angles.saturating_sub(1);
        }
        at += 1;
    }
    tokens.len()
}

/// Where the bracket that `open` opens is closed; the end if it never is.
pub(crate) fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        if ["(", "[", "{"].iter().any(|sign| token.is(sign)) {
            depth += 1;
        } else if [")", "]", "}"].iter().any(|sign| token.is(sign)) {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return at;
            }
        }
    }
    tokens.len()
}

/// Where the bracket that `close` closes was opened; `None` if it never was.
pub(crate) fn opening(tokens: &[Token], close: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for at in (0..=close).rev() {
        if [")", "]", "}"].iter().any(|sign| tokens[at].is(sign)) {
            depth += 1;
        } else if ["(", "[", "{"].iter().any(|sign| tokens[at].is(sign)) {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return Some(at);
            }
        }
    }
    None
}

/// A path that starts with `crate` or `super`, each branch of a `use` tree written out.
#[derive(Debug, PartialEq)]
pub(crate) struct Path {
    /// From the crate's root: `["store", "rows", "Row"]`.
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
}

/// The paths in `tokens`, the source of the module `module` (`["store", "rows"]`).
pub(crate) fn paths(tokens: &[Token], module: &[String]) -> Vec<Path> {
    let mut found = Vec::new();
    let mut here: Vec<String> = module.to_vec();
    let mut inline_ends: Vec<usize> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if inline_ends.last() == Some(&at) {
            inline_ends.pop();
            here.pop();
        }
        match tokens[at].ident() {
            Some("mod") if tokens.get(at + 2).is_some_and(|open| open.is("{")) => {
                here.extend(tokens[at + 1].ident().map(String::from));
                inline_ends.push(closing(tokens, at + 2));
                at += 3;
            }
            Some("crate" | "super") if tokens.get(at + 1).is_some_and(|next| next.is("::")) => {
                let mut branches = Vec::new();
                let end = branch(tokens, at, &mut Vec::new(), &mut branches);
                let line = tokens[at].line;
                found.extend(branches.iter().map(|names| Path { segments: resolve(names, &here), line }));
                at = end;
            }
            _ => at += 1,
        }
    }
    found
}

/// The branches of the `use` tree at `at`, as written.
pub(crate) fn use_tree(tokens: &[Token], at: usize) -> Vec<Vec<String>> {
    let mut branches = Vec::new();
    branch(tokens, at, &mut Vec::new(), &mut branches);
    branches
}

/// Reads the path or `use` tree at `at` into `branches`; returns where it ends.
fn branch(
    tokens: &[Token],
    mut at: usize,
    prefix: &mut Vec<String>,
    branches: &mut Vec<Vec<String>>,
) -> usize {
    let depth = prefix.len();
    loop {
        match tokens.get(at) {
            Some(open) if open.is("{") => {
                let end = closing(tokens, at);
                at += 1;
                while at < end {
                    at = branch(tokens, at, prefix, branches);
                    // Over `as name` to the next branch.
                    while at < end && !tokens[at].is(",") {
                        at += 1;
                    }
                    at += 1;
                }
                at = end + 1;
                break;
            }
            Some(name) if name.ident().is_some() || name.is("*") => {
                prefix.push(name.ident().unwrap_or("*").to_string());
                at += 1;
                let goes_on = tokens.get(at).is_some_and(|next| next.is("::"))
                    && tokens
                        .get(at + 1)
                        .is_some_and(|next| next.ident().is_some() || next.is("{") || next.is("*"));
                if !goes_on {
                    branches.push(prefix.clone());
                    break;
                }
                at += 1;
            }
            _ => break,
        }
    }
    prefix.truncate(depth);
    at
}

fn resolve(names: &[String], here: &[String]) -> Vec<String> {
    let mut segments = here.to_vec();
    for name in names {
        match name.as_str() {
            "crate" => segments.clear(),
            "super" => {
                segments.pop();
            }
            _ => segments.push(name.clone()),
        }
    }
    segments
}
