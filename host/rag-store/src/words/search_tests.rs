//! What a search by words finds.

use std::sync::Arc;

use rag_core::Error;
use rag_core::kb::KbSettings;
use rag_core::ports::Catalog;

use crate::testing::{Sample, TestStore, found, kb};

async fn with(lines: &str) -> TestStore {
    let store = TestStore::with_kb().await;
    Sample::ingested(&store, "a.txt", &[lines]).await;
    store
}

#[tokio::test]
async fn chinese_is_found_by_character_by_pair_and_across_scripts() {
    let store = with("向量数据库用于检索\n法律条文\n資料庫檢索\n搜索引擎\n𠮷野家\n").await;
    let check = async |query: &str, expected: &[&str]| {
        let mut texts = found(&store, query).await;
        texts.sort();
        assert_eq!(texts, expected, "{query}");
    };
    check("检索", &["向量数据库用于检索", "資料庫檢索"]).await;
    check("檢索", &["向量数据库用于检索", "資料庫檢索"]).await;
    check("法", &["法律条文"]).await;
    check("资料库", &["資料庫檢索"]).await;
    check("索引", &["搜索引擎"]).await;
    check("索", &["向量数据库用于检索", "搜索引擎", "資料庫檢索"]).await;
    check("𠮷野", &["𠮷野家"]).await;
    check("于检", &["向量数据库用于检索"]).await;
    check("没有的词", &[]).await;
    check("？！。，", &[]).await;
    check("", &[]).await;
}

#[tokio::test]
async fn english_is_found_by_stem_whatever_the_case_width_and_accents() {
    let store =
        with("The SERVER was deployed twice\nDeploying servers\nA café résumé\nＧＰＵ内存 16GB\n").await;
    let check = async |query: &str, expected: usize| {
        assert_eq!(found(&store, query).await.len(), expected, "{query}")
    };
    check("deploy", 2).await;
    check("Servers", 2).await;
    check("cafe", 1).await;
    check("CAFÉ", 1).await;
    check("cafe\u{301} re\u{301}sume\u{301}", 1).await;
    check("gpu", 1).await;
    check("１６ｇｂ", 1).await;
    check("deplo", 0).await;
}

#[tokio::test]
async fn better_matches_come_first_with_higher_scores() {
    let store = with("今天天气很好\n今天北京的天气怎么样\n北京的天气预报说今天下雨\n北京大学\n").await;
    let hits = store.lexical(&kb(), "initial-g1", "北京天气预报", 10, None).await.unwrap();
    assert!(hits.is_sorted_by(|a, b| a.score >= b.score));
    assert!(hits[0].score > 0.0);
    assert_eq!(found(&store, "北京天气预报").await[0], "北京的天气预报说今天下雨");
    assert_eq!(store.lexical(&kb(), "initial-g1", "北京天气预报", 1, None).await.unwrap(), hits[..1]);
    assert!(store.lexical(&kb(), "initial-g1", "北京", 0, None).await.unwrap().is_empty());
    assert!(matches!(
        store.lexical(&kb(), "initial-g1", "北京", 1_001, None).await,
        Err(Error::InvalidInput { .. })
    ));
}

#[tokio::test]
async fn nothing_in_a_question_is_syntax() {
    let store = with("普通文字 plain words\n").await;
    for evil in [
        "\"",
        "'",
        "\"\"\"",
        "words\"",
        "* NEAR(",
        "plain AND",
        "NOT words",
        "OR",
        "AND OR NOT NEAR",
        "words:plain",
        "-plain",
        "^plain",
        "pla*",
        "{words}: plain",
        "(plain",
        "plain)",
        "plain + words",
        "\0plain\0",
        "');DROP TABLE kbs;--",
        "rank MATCH 'x'",
        "words_1",
        "\u{202e}plain",
        "🦀",
        "\\",
        "?1",
        "%",
        "plain\u{0}\"words",
    ] {
        let outcome = store.lexical(&kb(), "initial-g1", evil, 5, None).await;
        assert!(outcome.is_ok(), "{evil:?}: {outcome:?}");
    }
    assert_eq!(found(&store, "words:plain").await.len(), 1);
    assert_eq!(found(&store, "NOT plain").await.len(), 1);
    assert!(found(&store, "pla*").await.is_empty());
    assert_eq!(found(&store, &"plain ".repeat(5_000)).await.len(), 1);
    let many: Vec<String> = (0..1_000).map(|at| format!("w{at}")).collect();
    assert!(found(&store, &many.join(" ")).await.is_empty());
}

#[tokio::test]
async fn common_words_are_left_out_only_where_rarer_ones_tell_more() {
    let store = TestStore::with_kb().await;
    let mut lines = "什么是什么\n".repeat(2_500);
    lines.push_str("什么是反向传播\n");
    Sample::ingested(&store, "a.txt", &[&lines]).await;
    assert_eq!(found(&store, "什么是反向传播？").await, ["什么是反向传播"]);
    // A few keywords all count, and the text that has both comes first.
    assert_eq!(store.lexical(&kb(), "initial-g1", "什么", 7, None).await.unwrap().len(), 7);
    let hits = found(&store, "什么 传播").await;
    assert_eq!((hits.len(), hits[0].as_str()), (100, "什么是反向传播"));
}

#[tokio::test]
async fn tables_filled_by_another_segmentation_are_filled_anew() {
    let store = with("检索增强\n").await;
    store
        .write(|transaction| {
            transaction.execute_batch(
                "UPDATE meta SET value = 'older' WHERE key = 'segmentation';
                 INSERT INTO words_1 (words_1) VALUES ('delete-all');",
            )?;
            Ok(())
        })
        .await
        .unwrap();
    assert!(found(&store, "检索").await.is_empty());
    let store = store.reopen();
    assert_eq!(found(&store, "检索").await, ["检索增强"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn searches_see_whole_documents_while_others_are_written() {
    let store = Arc::new(TestStore::with_kb().await);
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                loop {
                    // Every document has four chunks: a search sees all of one or nothing.
                    let seen = store.lexical(&kb(), "initial-g1", "共同", 1_000, None).await.unwrap().len();
                    assert_eq!(seen % 4, 0);
                    if seen == 4 * 30 {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for at in 0..30 {
        Sample::ingested(&store, &format!("{at}.txt"), &["共同一\n共同二\n", "共同三\n共同四\n"]).await;
    }
    for reader in readers {
        reader.await.unwrap();
    }
    store.delete_kb(&kb()).await.unwrap();
    store.create_kb(&kb(), &KbSettings::default()).await.unwrap();
    assert!(found(&store, "共同").await.is_empty());
}
