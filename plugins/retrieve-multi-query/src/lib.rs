//! Component `retrieve-multi-query`: the question and other wordings of it, joined by rank.

mod wordings;

use guest_retrieve::fusion::{Arm, Fused, fuse};
use guest_retrieve::options::{Fusion, Options};
use guest_retrieve::{Error, Generate, Outcome, Request, Result, Search, Trace, arms, check_question};
use guest_settings::Settings;

use crate::wordings::{History, standing_alone, wordings};

/// Names of the lists in evidence: the question and at most five other wordings.
const ARMS: [&str; 6] = ["question", "wording-1", "wording-2", "wording-3", "wording-4", "wording-5"];
/// The constant of reciprocal rank fusion.
const RANK_CONSTANT: u32 = 60;

/// Asks the model for other wordings, searches for each, joins by rank.
pub fn retrieve<H: Search + Generate>(host: &H, request: &Request, settings: &str) -> Result<Outcome> {
    let settings = Settings::parse(settings, &["dense_weight", "depth", "queries", "weight", "history"])
        .map_err(Error::invalid)?;
    let options = Options::read(&settings).map_err(Error::invalid)?;
    let queries = settings.integer("queries", 1..=5, 3).map_err(Error::invalid)? as usize;
    let weight = settings.number("weight", 0.0..=1.0, 0.5).map_err(Error::invalid)? as f32;
    let ways = [("model", History::Model), ("rules", History::Rules), ("off", History::Off)];
    let history = settings.choice("history", &ways, History::Rules).map_err(Error::invalid)?;
    check_question(request)?;
    let mut trace = Trace::default();
    let rewritten = standing_alone(host, request, history, &options, &mut trace);
    let question = rewritten.as_deref().unwrap_or(&request.question).to_owned();
    let others = wordings(host, &question, queries, &mut trace);
    let depth = arms::depth(&options, request.k);
    let reach = (depth, depth as usize);

    // The question must be answered; a wording that fails is done without.
    let asked = arms::both(host, &question, None, &options, reach, &mut trace)?;
    if others.is_empty() {
        return Ok(arms::outcome(asked, request, trace, rewritten));
    }
    let share = weight / others.len() as f32;
    let mut lists = vec![(1.0, asked)];
    for other in &others {
        if let Ok(found) = arms::both(host, other, None, &options, reach, &mut trace) {
            lists.push((share, found));
        }
    }
    let lists = ARMS.into_iter().zip(lists);
    let lists: Vec<Arm> = lists.map(|(name, (weight, hits))| arm(name, weight, hits, depth)).collect();
    let join = || Ok(fuse(&lists, Fusion::Rank { constant: RANK_CONSTANT }, request.k as usize));
    let told = |hits: &Vec<Fused>| {
        format!("{} chunks from {} lists; the others weigh {weight:.2} together", hits.len(), lists.len())
    };
    let joined = trace.step("join", join, told)?;
    Ok(arms::outcome(joined, request, trace, rewritten))
}

fn arm(name: &'static str, weight: f32, hits: Vec<Fused>, depth: u32) -> Arm {
    let hits = hits.into_iter().map(|hit| (hit.chunk, hit.score)).collect();
    Arm::new(name, hits, weight, depth as usize, None)
}

#[cfg(target_family = "wasm")]
mod component {
    //! The exports of the component.
    guest_retrieve::component!(retrieve: super::retrieve);
}
#[cfg(test)]
mod tests;
