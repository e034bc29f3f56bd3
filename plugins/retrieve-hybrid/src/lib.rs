//! Component `retrieve-hybrid`: vectors and words, joined by score or by rank.

use guest_retrieve::options::{KEYS, Options};
use guest_retrieve::{Error, Outcome, Request, Result, Search, Trace, arms, check_question};
use guest_settings::Settings;

/// Asks both arms and joins what they find.
pub fn retrieve<H: Search>(host: &H, request: &Request, settings: &str) -> Result<Outcome> {
    let options = Settings::parse(settings, KEYS).and_then(|s| Options::read(&s)).map_err(Error::invalid)?;
    check_question(request)?;
    let mut trace = Trace::default();
    let rewritten = arms::rewrite(request, &options, &mut trace);
    let searched = rewritten.as_deref().unwrap_or(&request.question);
    let reach = (arms::depth(&options, request.k), request.k as usize);
    let fused = arms::both(host, searched, None, &options, reach, &mut trace)?;
    Ok(arms::outcome(fused, request, trace, rewritten))
}

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.
    guest_retrieve::component!(retrieve: super::retrieve);
}
