//! RWKV-RAG's envelope: a request is a map with `cmd`, a reply is `{code: 200, value}` or `{code: 400, error}`.

use rag_core::Error;

use crate::value::{DEPTH_MAX, FRAME_BYTES_MAX, VALUES_MAX, Value};

/// The only two codes of the protocol.
const OK: i128 = 200;
const FAILED: i128 = 400;

/// What RWKV-RAG's services answer to a command that they do not have.
pub const UNSUPPORTED_COMMAND: &str = "Unsupported command";

/// Why a frame is not a message. All of these are the sender's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// More bytes than a frame may have.
    #[error("the frame has {bytes} bytes, more than {FRAME_BYTES_MAX}")]
    TooLong { bytes: usize },
    /// Arrays and maps inside each other beyond the limit.
    #[error("the frame nests deeper than {DEPTH_MAX}")]
    TooDeep,
    /// More values than a frame may have.
    #[error("the frame has more than {VALUES_MAX} values")]
    TooMany,
    /// The frame ends in the middle of a value.
    #[error("the frame breaks off in the middle of a value")]
    Truncated,
    /// Something follows the one value of a frame.
    #[error("{bytes} bytes follow the message")]
    Trailing { bytes: usize },
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    NotUtf8,
    /// An extension type, or the one byte that means nothing.
    #[error("MessagePack type {tag:#04x} is not part of this protocol")]
    Extension { tag: u8 },
    /// A well-formed value that is no request.
    #[error("a request is a map with text keys and a text 'cmd'")]
    NotARequest,
    /// A well-formed value that is no reply.
    #[error("a reply is a map with code 200 and 'value', or code 400 and 'error'")]
    NotAReply,
}

impl From<WireError> for Error {
    fn from(error: WireError) -> Self {
        Error::invalid(error.to_string())
    }
}

/// `{"cmd": NAME, …fields}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// In upper case: RWKV-RAG's releases differ in whether they compare exactly, so both spellings are taken.
    pub cmd: String,
    fields: Vec<(String, Value)>,
}

impl Request {
    pub fn new(cmd: &str) -> Self {
        Request { cmd: cmd.to_ascii_uppercase(), fields: Vec::new() }
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.fields.push((name.to_owned(), value));
        self
    }

    /// The field of this name; nil counts as absent, as Python clients send it for what was not given.
    pub fn field(&self, name: &str) -> Option<&Value> {
        let found = self.fields.iter().rev().find(|(key, _)| key == name);
        found.map(|(_, value)| value).filter(|value| **value != Value::Nil)
    }

    pub fn decode(frame: &[u8]) -> Result<Request, WireError> {
        let Value::Map(pairs) = Value::decode(frame)? else { return Err(WireError::NotARequest) };
        let mut cmd = None;
        let mut fields = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            match (key, value) {
                (Value::Str(key), Value::Str(name)) if key == "cmd" => cmd = Some(name.to_ascii_uppercase()),
                (Value::Str(key), value) if key != "cmd" => fields.push((key, value)),
                _ => return Err(WireError::NotARequest),
            }
        }
        cmd.map(|cmd| Request { cmd, fields }).ok_or(WireError::NotARequest)
    }

    pub fn encode(&self) -> Vec<u8> {
        let fields = self.fields.iter().map(|(key, value)| (key.as_str().into(), value.clone()));
        let cmd = (Value::from("cmd"), self.cmd.as_str().into());
        Value::Map(std::iter::once(cmd).chain(fields).collect()).encode()
    }
}

/// What a worker, or the proxy in its place, answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Value(Value),
    /// One sentence for a person.
    Error(String),
}

impl Reply {
    pub fn decode(frame: &[u8]) -> Result<Reply, WireError> {
        Reply::from_value(Value::decode(frame)?)
    }

    /// As `decode`, of a frame that was read already.
    pub fn from_value(value: Value) -> Result<Reply, WireError> {
        let Value::Map(pairs) = value else { return Err(WireError::NotAReply) };
        let (mut code, mut value, mut error) = (None, None, None);
        for (key, found) in pairs {
            match (key.as_str(), found) {
                (Some("code"), Value::Int(found)) => code = Some(found),
                (Some("value"), found) => value = Some(found),
                (Some("error"), Value::Str(found)) => error = Some(found),
                // Later releases may add keys; a Python client would not look at them either.
                _ => {}
            }
        }
        match (code, value, error) {
            (Some(OK), value, _) => Ok(Reply::Value(value.unwrap_or(Value::Nil))),
            (Some(FAILED), _, Some(error)) => Ok(Reply::Error(error)),
            _ => Err(WireError::NotAReply),
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let (code, key, value) = match self {
            Reply::Value(value) => (OK, "value", value.clone()),
            Reply::Error(error) => (FAILED, "error", error.as_str().into()),
        };
        Value::Map(vec![("code".into(), Value::Int(code)), (key.into(), value)]).encode()
    }
}

impl From<Result<Value, Error>> for Reply {
    fn from(result: Result<Value, Error>) -> Self {
        match result {
            Ok(value) => Reply::Value(value),
            Err(error) => Reply::Error(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_request_is_the_bytes_that_a_python_client_sends() {
        let texts = Value::Array(vec!["你好".into(), "a".into()]);
        let request = Request::new("GET_EMBEDDINGS").with("texts", texts);
        let golden = "82a3636d64ae4745545f454d42454444494e4753a5746578747392a6e4bda0e5a5bda161";
        assert_eq!(hex(&request.encode()), golden);
        assert_eq!(Request::decode(&request.encode()).unwrap(), request);
    }

    #[test]
    fn replies_are_the_bytes_that_a_python_worker_sends() {
        let check = |reply: Reply, golden: &str| {
            assert_eq!(hex(&reply.encode()), golden);
            assert_eq!(Reply::decode(&reply.encode()).unwrap(), reply);
        };
        let vectors = Value::Array(vec![
            Value::Array(vec![Value::Float(0.5), Value::Float(-1.0)]),
            Value::Array(vec![Value::Int(1)]),
        ]);
        check(
            Reply::Value(vectors),
            "82a4636f6465ccc8a576616c75659292cb3fe0000000000000cbbff00000000000009101",
        );
        check(
            Reply::Error(UNSUPPORTED_COMMAND.to_owned()),
            "82a4636f6465cd0190a56572726f72b3556e737570706f7274656420636f6d6d616e64",
        );
    }

    #[test]
    fn commands_are_compared_without_regard_to_case_and_the_last_field_wins() {
        let frame = Value::Map(vec![
            ("k".into(), Value::Int(1)),
            ("cmd".into(), "search_nearby".into()),
            ("k".into(), Value::Int(2)),
            ("state".into(), Value::Nil),
        ]);
        let request = Request::decode(&frame.encode()).unwrap();
        assert_eq!(request.cmd, "SEARCH_NEARBY");
        assert_eq!(request.field("k"), Some(&Value::Int(2)));
        assert_eq!((request.field("state"), request.field("cmd")), (None, None));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let check = |value: Value| {
            assert_eq!(Request::decode(&value.encode()), Err(WireError::NotARequest), "{value:?}");
        };
        check(Value::Nil);
        check(Value::Array(vec!["cmd".into()]));
        check(Value::Map(vec![]));
        check(Value::Map(vec![("cmd".into(), Value::Int(3))]));
        check(Value::Map(vec![("cmd".into(), "A".into()), (Value::Int(1), Value::Nil)]));
        assert_eq!(Request::decode(b"\xc1"), Err(WireError::Extension { tag: 0xc1 }));
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        let code = |code| ("code".into(), Value::Int(code));
        let check = |pairs: Vec<(Value, Value)>| {
            assert_eq!(Reply::decode(&Value::Map(pairs).encode()), Err(WireError::NotAReply));
        };
        check(vec![]);
        check(vec![code(500), ("value".into(), Value::Nil)]);
        check(vec![code(400)]);
        assert_eq!(Reply::decode(&[]), Err(WireError::Truncated));
        let null = Reply::decode(&Value::Map(vec![code(200), ("x".into(), Value::Nil)]).encode());
        assert_eq!(null, Ok(Reply::Value(Value::Nil)), "Python's None may be left out");
    }

    #[test]
    fn an_error_of_ours_becomes_one_sentence() {
        let error = Error::NotFound { what: "knowledge base", name: "无此库".to_owned() };
        let reply = Reply::from(Err(error));
        assert_eq!(reply, Reply::Error("knowledge base '无此库' does not exist".to_owned()));
        assert_eq!(Error::from(WireError::NotUtf8).to_string(), "a string is not UTF-8");
    }
}
