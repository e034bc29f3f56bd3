//! Why does a plugin refuse, and who must act?

/// As the contract's codes, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    InvalidInput,
    Unsupported,
    NotFound,
    Conflict,
    Quota,
    Unavailable,
    Timeout,
    Internal,
}

/// A refusal of the plugin or of its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub code: Code,
    /// One sentence for a person.
    pub message: String,
    pub retryable: bool,
}

/// What was asked for, or why there is none.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Wrong settings.
    pub fn invalid(message: String) -> Self {
        Error { code: Code::InvalidInput, message, retryable: false }
    }

    /// The host broke its contract.
    pub fn internal(message: String) -> Self {
        Error { code: Code::Internal, message, retryable: false }
    }
}

/// `from_host` and `to_host`: between [`Error`] and the contract's errors, whose types `wit-bindgen` makes anew in each
/// library; `$wit` is the module that holds them.
#[macro_export]
macro_rules! host_errors {
    ($wit:ident) => {
        /// In the order of `ragkit:types/error-code`.
        const CODES: [($crate::error::Code, $wit::ErrorCode); 8] = {
            use $crate::error::Code;
            [
                (Code::InvalidInput, $wit::ErrorCode::InvalidInput),
                (Code::Unsupported, $wit::ErrorCode::Unsupported),
                (Code::NotFound, $wit::ErrorCode::NotFound),
                (Code::Conflict, $wit::ErrorCode::Conflict),
                (Code::Quota, $wit::ErrorCode::Quota),
                (Code::Unavailable, $wit::ErrorCode::Unavailable),
                (Code::Timeout, $wit::ErrorCode::Timeout),
                (Code::Internal, $wit::ErrorCode::Internal),
            ]
        };

        fn from_host(error: $wit::Error) -> $crate::error::Error {
            let code = CODES.iter().find(|(_, code)| *code == error.code);
            let code = code.map_or($crate::error::Code::Internal, |(code, _)| *code);
            $crate::error::Error { code, message: error.message, retryable: error.retryable }
        }

        fn to_host(error: $crate::error::Error) -> $wit::Error {
            let code = CODES.iter().find(|(code, _)| *code == error.code);
            let code = code.map_or($wit::ErrorCode::Internal, |(_, code)| *code);
            $wit::Error { code, message: error.message, retryable: error.retryable }
        }
    };
}
