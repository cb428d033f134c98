//! What the daemon says to an upload: lines of JSON, the last of which says how it ended.

use std::error::Error;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;

/// The longest line that is read, in bytes.
const LONGEST: usize = 64 * 1024;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Line {
    /// How far a step has come, in bytes.
    Progress { done: u64, total: u64, step: Option<String> },
    /// It is done: the image's id.
    Image(String),
    /// It is not done.
    Error { code: String, message: String },
}

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnswerError {
    /// The connection broke off, or its end is no end of HTTP.
    #[error("The answer broke off")]
    BrokeOff(#[source] Box<dyn Error + Send + Sync>),
    /// It ended properly, but not with a line that says how.
    #[error("The daemon did not say how it ended")]
    Unfinished,
    /// A line is not one of those.
    #[error("The daemon said something that cannot be read")]
    Malformed(#[source] serde_json::Error),
    /// A line is too long.
    #[error("The daemon said a line of more than {LONGEST} bytes")]
    TooLong,
}

/// The lines as they come.
pub(super) struct Answer {
    body: Incoming,
    /// What has come of lines that were not returned yet.
    buffer: Vec<u8>,
}

impl Answer {
    /// The lines of an answer's body.
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, buffer: Vec::new() }
    }

    /// The next line. May be dropped and asked again: nothing is lost.
    pub(super) async fn next(&mut self) -> Result<Line, AnswerError> {
        loop {
            if let Some(line) = take_line(&mut self.buffer)? {
                return Ok(line);
            }
            match self.body.frame().await {
                None => return Err(AnswerError::Unfinished),
                Some(frame) => {
                    let frame = frame.map_err(|error| AnswerError::BrokeOff(error.into()))?;
                    self.buffer.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
                }
            }
        }
    }
}

/// The first whole line of what has come. Empty ones say nothing.
fn take_line(buffer: &mut Vec<u8>) -> Result<Option<Line>, AnswerError> {
    while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
        let line: Vec<u8> = buffer.drain(..=end).collect();
        if !line.trim_ascii().is_empty() {
            return serde_json::from_slice(&line).map(Some).map_err(AnswerError::Malformed);
        }
    }
    if buffer.len() > LONGEST { Err(AnswerError::TooLong) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_as_they_are_whole() {
        let mut buffer =
            b"{\"progress\":{\"done\":1,\"total\":2}}\n\n{\"progress\":{\"done\":2,\"total\":2,\"step\":\"Ma"
                .to_vec();
        let progress =
            |done, step: Option<&str>| Line::Progress { done, total: 2, step: step.map(str::to_owned) };
        assert_eq!(take_line(&mut buffer).unwrap(), Some(progress(1, None)));
        assert_eq!(take_line(&mut buffer).unwrap(), None);
        buffer.extend_from_slice(
            b"pping\"}}\n{\"image\":\"ami-1\"}\n{\"error\":{\"code\":\"A\",\"message\":\"b\"}}\n",
        );
        assert_eq!(take_line(&mut buffer).unwrap(), Some(progress(2, Some("Mapping"))));
        assert_eq!(take_line(&mut buffer).unwrap(), Some(Line::Image("ami-1".to_owned())));
        let error = Line::Error { code: "A".to_owned(), message: "b".to_owned() };
        assert_eq!(take_line(&mut buffer).unwrap(), Some(error));
        assert_eq!(take_line(&mut buffer).unwrap(), None);
    }

    #[test]
    fn what_is_no_line_is_refused() {
        for text in ["x\n", "{}\n", "{\"image\":1}\n", "{\"progress\":{}}\n", "{\"other\":1}\n"] {
            assert!(
                matches!(take_line(&mut text.as_bytes().to_vec()), Err(AnswerError::Malformed(_))),
                "{text}"
            );
        }
        assert!(matches!(take_line(&mut vec![b'x'; LONGEST + 1]), Err(AnswerError::TooLong)));
    }
}
