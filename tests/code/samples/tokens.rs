//! A tokenizer and evaluator of arithmetic: numbers, names, brackets and five operators.

use std::collections::HashMap;
use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    Number(f64),
    Name(String),
    Op(char),
    Open,
    Close,
}

#[derive(Debug)]
pub enum Error {
    Unexpected { found: Option<char>, at: usize },
    UnknownName(String),
    DivisionByZero,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unexpected { found: Some(c), at } => write!(f, "unexpected {c:?} at {at}"),
            Error::Unexpected { found: None, .. } => write!(f, "unexpected end"),
            Error::UnknownName(name) => write!(f, "unknown name {name}"),
            Error::DivisionByZero => f.write_str("division by zero"),
        }
    }
}

impl std::error::Error for Error {}

pub struct Lexer<'a> {
    chars: Peekable<Chars<'a>>,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub fn new(source: &'a str) -> Self {
        Lexer { chars: source.chars().peekable(), at: 0 }
    }

    fn take_while<F: Fn(char) -> bool>(&mut self, test: F) -> String {
        let mut taken = String::new();
        while let Some(&c) = self.chars.peek() {
            if !test(c) {
                break;
            }
            taken.push(c);
            self.chars.next();
            self.at += 1;
        }
        taken
    }
}

impl Iterator for Lexer<'_> {
    type Item = Result<Token, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take_while(char::is_whitespace);
        let c = *self.chars.peek()?;
        Some(match c {
            '0'..='9' | '.' => {
                let text = self.take_while(|c| c.is_ascii_digit() || c == '.');
                text.parse().map(Token::Number).map_err(|_| Error::Unexpected { found: Some(c), at: self.at })
            }
            'a'..='z' | 'A'..='Z' | '_' => Ok(Token::Name(self.take_while(char::is_alphanumeric))),
            '(' | ')' | '+' | '-' | '*' | '/' | '^' => {
                self.chars.next();
                self.at += 1;
                Ok(match c {
                    '(' => Token::Open,
                    ')' => Token::Close,
                    op => Token::Op(op),
                })
            }
            other => Err(Error::Unexpected { found: Some(other), at: self.at }),
        })
    }
}

const fn power(op: char) -> u8 {
    if op == '^' { 3 } else if op == '*' || op == '/' { 2 } else { 1 }
}

pub struct Evaluator {
    names: HashMap<String, f64>,
}

impl Evaluator {
    pub fn with(names: &[(&str, f64)]) -> Self {
        let names = names.iter().map(|(k, v)| (k.to_string(), *v)).collect();
        Self { names }
    }

    pub fn apply(&self, op: char, a: f64, b: f64) -> Result<f64, Error> {
        Ok(match op {
            '+' => a + b,
            '-' => a - b,
            '*' => a * b,
            '/' if b == 0.0 => return Err(Error::DivisionByZero),
            '/' => a / b,
            _ => a.powf(b),
        })
    }

    pub fn value(&self, name: &str) -> Result<f64, Error> {
        self.names.get(name).copied().ok_or_else(|| Error::UnknownName(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_and_operators() {
        let tokens: Vec<_> = Lexer::new("1.5 + x").map(Result::unwrap).collect();
        assert_eq!(tokens.len(), 3);
        assert!(power('^') > power('+'));
    }
}
