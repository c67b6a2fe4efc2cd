//! The text form of label selectors: `x in (a,,b),y,!z,v>5`.

use super::label::{Operator, Requirement, SelectorError};
use crate::names;
use crate::status::FieldError;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Token {
    End,
    Open,
    Close,
    Comma,
    Not,
    Operator(Operator),
    Word,
    Unknown,
}

/// Splits the text into tokens with their texts; the last one is [`Token::End`].
fn scan(text: &str) -> Vec<(Token, String)> {
    const SPECIAL: &[char] = &['=', '!', '(', ')', ',', '>', '<'];
    let is_space = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let mut tokens = Vec::new();
    // A zero byte ends the text, as it does upstream.
    let mut rest = text.split('\0').next().unwrap_or_default();
    loop {
        rest = rest.trim_start_matches(is_space);
        if rest.is_empty() {
            tokens.push((Token::End, String::new()));
            return tokens;
        }
        let length = if rest.starts_with(SPECIAL) {
            if rest.starts_with("==") || rest.starts_with("!=") { 2 } else { 1 }
        } else {
            rest.find(|c| is_space(c) || SPECIAL.contains(&c)).unwrap_or(rest.len())
        };
        let (word, tail) = rest.split_at(length);
        tokens.push((token(word), word.to_owned()));
        rest = tail;
    }
}

fn token(word: &str) -> Token {
    match word {
        "(" => Token::Open,
        ")" => Token::Close,
        "," => Token::Comma,
        "!" => Token::Not,
        "=" => Token::Operator(Operator::Equals),
        "==" => Token::Operator(Operator::DoubleEquals),
        "!=" => Token::Operator(Operator::NotEquals),
        ">" => Token::Operator(Operator::GreaterThan),
        "<" => Token::Operator(Operator::LessThan),
        "in" => Token::Operator(Operator::In),
        "notin" => Token::Operator(Operator::NotIn),
        "" => Token::Unknown,
        _ => Token::Word,
    }
}

pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let mut parser = Parser { tokens: scan(text), at: 0 };
    let mut requirements = Vec::new();
    loop {
        match parser.peek() {
            Token::Word | Token::Not => {
                let requirement = parser.requirement();
                requirements.push(requirement.map_err(|error| SelectorError::Requirement(Box::new(error)))?);
                match parser.next() {
                    (Token::End, _) => return Ok(requirements),
                    (Token::Comma, _) if matches!(parser.peek(), Token::Word | Token::Not) => {}
                    (Token::Comma, _) => return Err(unexpected(parser.next().1, ", expected: identifier after ','")),
                    (_, found) => return Err(unexpected(found, ", expected: ',' or 'end of string'")),
                }
            }
            Token::End => return Ok(requirements),
            _ => return Err(unexpected(parser.next().1, ", expected: !, identifier, or 'end of string'")),
        }
    }
}

fn unexpected(found: String, expected: &'static str) -> SelectorError {
    SelectorError::Unexpected { found, expected }
}

struct Parser {
    tokens: Vec<(Token, String)>,
    at: usize,
}

impl Parser {
    /// The next token as a key or value: `in` and `notin` are words there.
    fn peek(&self) -> Token {
        match self.tokens.get(self.at) {
            Some((Token::Operator(Operator::In | Operator::NotIn), _)) => Token::Word,
            Some((token, _)) => *token,
            None => Token::End,
        }
    }

    fn next(&mut self) -> (Token, String) {
        let token = self.peek();
        let text = self.tokens.get(self.at).map(|(_, text)| text.clone()).unwrap_or_default();
        self.at += 1;
        (token, text)
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let is_absence = self.peek() == Token::Not;
        if is_absence {
            self.at += 1;
        }
        let key = match self.next() {
            (Token::Word, key) => key,
            (_, found) => return Err(unexpected(found, ", expected: identifier")),
        };
        let problems = names::qualified_name(&key);
        if !problems.is_empty() {
            // Upstream passes no path here and prints the missing one so.
            let error = FieldError::invalid("<nil>", &key, problems.join("; "));
            return Err(SelectorError::Invalid(vec![error]));
        }
        if is_absence {
            return Requirement::new(&key, Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Requirement::new(&key, Operator::Exists, Vec::new());
        }
        let (token, found) = self.tokens.get(self.at).cloned().unwrap_or((Token::End, String::new()));
        self.at += 1;
        let Token::Operator(operator) = token else {
            return Err(unexpected(found, ", expected: in, notin, =, ==, !=, gt, lt"));
        };
        let mut values = match operator {
            Operator::In | Operator::NotIn => self.set()?,
            _ => vec![self.exact()?],
        };
        values.sort_unstable();
        values.dedup();
        Requirement::new(&key, operator, values)
    }

    fn exact(&mut self) -> Result<Box<str>, SelectorError> {
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Ok("".into());
        }
        match self.next() {
            (Token::Word, value) => Ok(value.into()),
            (_, found) => Err(unexpected(found, ", expected: identifier")),
        }
    }

    /// `(a,b)`, with empty values where nothing stands between the commas.
    fn set(&mut self) -> Result<Vec<Box<str>>, SelectorError> {
        match self.next() {
            (Token::Open, _) => {}
            (_, found) => return Err(unexpected(found, " expected: '('")),
        }
        if !matches!(self.peek(), Token::Word | Token::Comma | Token::Close) {
            return Err(unexpected(self.next().1, ", expected: ',', ')' or identifier"));
        }
        let mut values = Vec::new();
        let mut is_after_value = false;
        loop {
            match self.next() {
                (Token::Word, value) if !is_after_value => {
                    values.push(value.into());
                    is_after_value = true;
                }
                (Token::Close, _) => {
                    if !is_after_value {
                        values.push("".into());
                    }
                    return Ok(values);
                }
                (Token::Comma, _) => {
                    if !is_after_value {
                        values.push("".into());
                    }
                    is_after_value = false;
                }
                (_, found) if is_after_value => return Err(unexpected(found, ", expected: ',' or ')'")),
                (_, found) => return Err(unexpected(found, ", expected: ',', or identifier")),
            }
        }
    }
}
