//! What a person does on the page: log in, upload, ask, read the citation; and what a document must not do to it.

use crate::host::{Data, fixture, root};
use crate::webdriver::Browser;

/// A document that tries to become part of the page, by its name and its text.
const HOSTILE_NAME: &str = "<img src=x onerror=window.taken=1>.md";
const HOSTILE_TEXT: &str = "# <script>window.taken=2</script>\n\nThe lighthouse keeper's word is <img src=x onerror=window.taken=3> ![x](http://127.0.0.1:9/leak.png) <svg onload=window.taken=4> javascript:window.taken=5 marmalade.\n";

async fn log_in(browser: &Browser, url: &str, key: &str) {
    browser.open(url).await;
    browser.until("document.querySelector('#login').hidden === false").await;
    browser.type_into("#key", key).await;
    browser.click("#login-form button").await;
    browser
        .until("!document.querySelector('#work').hidden && document.querySelector('#kb').value === 'initial'")
        .await;
}

async fn ask(browser: &Browser, question: &str) {
    browser.type_into("#question", question).await;
    browser.click("#send").await;
    browser.until("document.querySelector('.answer.writing') === null && !document.querySelector('#send').disabled && document.querySelector('.round:last-child').children.length > 2").await;
}

#[tokio::test]
async fn a_person_uploads_asks_and_reads_the_citation() {
    let mut data = Data::new();
    let host = data.start();
    let browser = Browser::start("zh-CN").await;
    browser.open(&host.url).await;
    browser.until("document.querySelector('#login').hidden === false").await;
    assert_eq!(browser.text("#login-form h2").await, "登录", "the browser's language is spoken");

    // A wrong key is refused in words, then the right one opens the page.
    browser.type_into("#key", "wrong").await;
    browser.click("#login-form button").await;
    browser.until("document.querySelector('#trouble').hidden === false").await;
    browser.script("document.querySelector('#key').value = ''").await;
    log_in(&browser, &host.url, &host.key).await;
    let cookie = browser.script("return document.cookie").await;
    assert_eq!(cookie, "", "no script can read the session");

    let file = root().join("tests/e2e/fixtures/apt-手册.md");
    browser.type_into("#files", file.to_str().unwrap()).await;
    browser.until("document.querySelectorAll('.document').length === 1").await;
    assert!(browser.text("#jobs").await.contains("完成"), "{}", browser.text("#jobs").await);
    assert_eq!(browser.text(".document .name").await, "apt-手册.md");

    ask(&browser, "静态 IP 地址写在哪个文件里？").await;
    let quote = browser.text(".citation blockquote").await;
    assert!(!quote.is_empty() && fixture("apt-手册.md").contains(&quote), "{quote}");
    assert!(browser.text(".citation").await.contains("apt-手册.md"));
    assert!(
        browser.text(".notice").await.contains("演示模型"),
        "the demonstration model says that it is one"
    );
    browser.click(".citation summary").await;
    assert!(browser.text(".citation .passage").await.contains("/etc/network/interfaces"));
    assert_eq!(browser.text(".citation mark").await, quote);
    assert!(browser.text(".recall").await.contains("rerank"));

    // The other language, a reload and the conversation is still there.
    browser.click("#language").await;
    browser.until("document.querySelector('#talk-title').textContent === 'Ask'").await;
    browser.open(&host.url).await;
    browser.until("document.querySelectorAll('.round').length === 1").await;
    assert!(browser.text(".asked").await.contains("静态 IP"));
    assert_eq!(browser.text("#talk-title").await, "Ask");

    browser.click(".document button").await;
    browser.accept().await;
    browser.until("document.querySelectorAll('.document').length === 0").await;
    browser.click("#logout").await;
    browser.until("document.querySelector('#login').hidden === false").await;
    let complaints = browser.complaints().await;
    let unexpected: Vec<_> = complaints.iter().filter(|line| !line.contains("401")).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
    browser.close().await;
    host.stop();
}

#[tokio::test]
async fn a_document_never_becomes_part_of_the_page() {
    let mut data = Data::new();
    let host = data.start();
    let job = host.ingest("initial", HOSTILE_NAME, HOSTILE_TEXT).await;
    assert_eq!(job["state"], "done", "{job}");
    let browser = Browser::start("en-US").await;
    log_in(&browser, &host.url, &host.key).await;
    browser.until("document.querySelectorAll('.document').length === 1").await;
    ask(&browser, "What is the lighthouse keeper's word? <img src=x onerror=window.taken=6>").await;
    assert!(browser.text(".citation").await.contains("<img src=x onerror"), "the text is shown as text");
    let made = browser.script("return [document.querySelectorAll('#work img, #work svg, #work script').length, window.taken ?? 0]").await;
    assert_eq!(made, serde_json::json!([0, 0]));
    // Were markup to slip in all the same, the content policy would stop it.
    browser.script("const s = document.createElement('div'); document.body.append(s); s.innerHTML = '<img src=x onerror=window.taken=7>'; const t = document.createElement('script'); t.textContent = 'window.taken=8'; document.body.append(t)").await;
    browser.until("performance.now() > 0").await;
    assert_eq!(browser.script("return window.taken ?? 0").await, 0);
    assert!(browser.complaints().await.iter().any(|line| line.contains("Content Security Policy")));
    browser.close().await;
    host.stop();
}
