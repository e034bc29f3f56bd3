//! Prints the OpenAPI document, from which the page's types are made (`cargo xtask ui-types`).

use std::io::Write as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let document = rag_http::openapi().to_pretty_json()?;
    writeln!(std::io::stdout(), "{document}")?;
    Ok(())
}
