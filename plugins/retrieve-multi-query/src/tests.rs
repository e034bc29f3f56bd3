//! Other wordings find more, and a model that is away or talks nonsense costs nothing but its time.

use std::cell::RefCell;

use guest_retrieve::testing::Memory;
use guest_retrieve::{Outcome, Request};

use crate::retrieve;

fn host(answers: &[&str]) -> Memory {
    let host = Memory::new(&[
        ("asked", "安装 软件", [1.0, 0.0]),
        ("other", "apt install", [0.9, 0.4]),
        ("far", "无关", [0.0, 1.0]),
    ]);
    Memory { answers: RefCell::new(answers.iter().map(|a| (*a).to_owned()).collect()), ..host }
}

fn found(host: &Memory, history: &[(&str, &str)], settings: &str) -> Outcome {
    let history = history.iter().map(|(q, a)| ((*q).to_owned(), (*a).to_owned())).collect();
    retrieve(host, &Request { question: "安装 软件".to_owned(), history, k: 3 }, settings).unwrap()
}

fn names(outcome: &Outcome) -> Vec<&str> {
    outcome.steps.iter().map(|step| step.name.as_str()).collect()
}

#[test]
fn every_wording_is_searched_for_and_seen_in_the_evidence() {
    let host = host(&["1. apt install\n2. 怎样 装 软件"]);
    let found = found(&host, &[], "{}");
    assert_eq!(*host.searched.borrow(), ["安装 软件", "apt install", "怎样 装 软件"]);
    assert_eq!(found.hits[0].chunk, "asked");
    let arms: Vec<&str> = found.hits[0].evidence.iter().map(|e| e.arm.as_str()).collect();
    assert_eq!(arms, ["question", "wording-1", "wording-2"]);
    assert_eq!((names(&found)[0], *names(&found).last().unwrap()), ("wordings", "join"));
    assert_eq!(found.rewritten, None);
}

#[test]
fn without_usable_wordings_the_question_alone_is_searched_for() {
    for answers in [&[][..], &[""], &["！！！\n……"], &["安装软件？"], &["啊啊啊啊啊啊啊啊"]]
    {
        let host = host(answers);
        let found = found(&host, &[], "{}");
        assert_eq!(*host.searched.borrow(), ["安装 软件"], "{answers:?}");
        assert_eq!(found.hits[0].chunk, "asked");
        assert_eq!(names(&found), ["wordings", "dense", "lexical", "fuse"]);
    }
}

#[test]
fn the_model_makes_a_follow_up_stand_alone() {
    let rounds = [("什么是 Debian？", "一种系统。")];
    let model = host(&["怎样在 Debian 中安装软件？", ""]);
    let outcome = found(&model, &rounds, r#"{"history": "model"}"#);
    assert_eq!(outcome.rewritten.as_deref(), Some("怎样在 Debian 中安装软件？"));
    assert!(model.prompts.borrow()[0].contains("答：一种系统。"));
    // Nothing usable: the rules, which see that this question stands alone or leans.
    let outcome = found(&host(&["！！", ""]), &rounds, r#"{"history": "model"}"#);
    let by_rules = found(&host(&[""]), &rounds, r#"{"history": "rules"}"#);
    assert_eq!(outcome.rewritten, by_rules.rewritten);
    assert_eq!(found(&host(&[""]), &rounds, r#"{"history": "off"}"#).rewritten, None);
}
