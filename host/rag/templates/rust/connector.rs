//! A connector: asks a server that answers a line a result, `address TAB title TAB summary`. Change `SERVER` and `results`.

/// Grant it with `origin = "https://example.org"`.
pub const SERVER: &str = "https://example.org/search";

/// Address, title and summary of each line, no address twice, at most `limit`.
pub fn results(body: &str, limit: usize) -> Vec<(String, String, String)> {
    let mut found: Vec<(String, String, String)> = Vec::new();
    for line in body.lines() {
        let mut parts = line.splitn(3, '\t').map(|part| part.trim().to_owned());
        let (Some(url), Some(title)) = (parts.next(), parts.next()) else { continue };
        let web = (url.starts_with("https://") || url.starts_with("http://")) && !url.contains(' ');
        if web && found.len() < limit && found.iter().all(|(other, ..)| *other != url) {
            found.push((url, title, parts.next().unwrap_or_default()));
        }
    }
    found
}

/// As a value in an address.
pub fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_results() {
        let found = results("https://a/\t甲\tone\nnonsense\nhttps://a/\tagain\nhttps://b/\tB", 9);
        let addresses: Vec<&str> = found.iter().map(|(url, ..)| url.as_str()).collect();
        assert_eq!(addresses, ["https://a/", "https://b/"]);
        assert_eq!(escaped("a 中"), "a%20%E4%B8%AD");
    }
}

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.
    wit_bindgen::generate!({ path: "wit", world: "connector-plugin", generate_all });

    use exports::ragkit::plugin::{connector, info};
    use ragkit::host::{config, http};
    use ragkit::types::types::{Error, ErrorCode};

    struct Plugin;
    export!(Plugin);

    fn error(code: ErrorCode, message: String) -> Error {
        Error { code, message, retryable: false }
    }

    impl info::Guest for Plugin {
        fn describe() -> info::Info {
            info::Info {
                id: env!("CARGO_PKG_NAME").to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                description: env!("CARGO_PKG_DESCRIPTION").to_owned(),
            }
        }
    }

    impl connector::Guest for Plugin {
        fn search(query: String, limit: u32) -> Result<Vec<connector::Found>, Error> {
            let settings = config::settings();
            if settings.trim() != "{}" {
                let message = format!("this connector has no settings; it was given {settings}");
                return Err(error(ErrorCode::InvalidInput, message));
            }
            let url = format!("{}?q={}&limit={limit}", super::SERVER, super::escaped(&query));
            let request = http::Request { method: http::Method::Get, url, headers: Vec::new(), body: None };
            let response = http::fetch(&request)?;
            if response.status != 200 {
                return Err(error(
                    ErrorCode::Unavailable,
                    format!("the server answered {}", response.status),
                ));
            }
            let body = String::from_utf8_lossy(&response.body);
            let found = super::results(&body, limit as usize).into_iter();
            Ok(found.map(|(url, title, summary)| connector::Found { url, title, summary }).collect())
        }
    }
}
