//! The page: served whole, from here alone, and never a way for text to become markup.

use super::world::World;

const FILES: [&str; 7] = ["app", "api", "ask", "documents", "dom", "words", "style"];

async fn file(world: &World, path: &str) -> String {
    world.get("", path).await.is(200).text().to_owned()
}

#[tokio::test]
async fn the_page_and_all_that_it_names_is_served() {
    let world = World::new().await;
    let index = world.get("", "/").await.is(200);
    assert_eq!(index.header("content-type"), "text/html; charset=utf-8");
    let named = index.text().split('"').filter(|part| part.starts_with("/ui/"));
    for path in named {
        world.get("", path).await.is(200);
    }
    for (path, kind) in
        [("/ui/app.js", "text/javascript"), ("/ui/style.css", "text/css"), ("/ui/icon.svg", "image/svg+xml")]
    {
        assert!(world.get("", path).await.is(200).header("content-type").starts_with(kind));
    }
    let app = file(&world, "/ui/app.js").await;
    for import in app.split("from \"./").skip(1).filter_map(|rest| rest.split('"').next()) {
        world.get("", &format!("/ui/{import}")).await.is(200);
    }
}

#[tokio::test]
async fn nothing_inline_and_nothing_from_elsewhere() {
    let world = World::new().await;
    let index = file(&world, "/").await;
    for bad in ["<style", " style=", " onclick", " onload", "javascript:", "http://", "https://"] {
        assert!(!index.contains(bad), "{bad}");
    }
    assert_eq!(index.matches("<script").count(), index.matches("<script type=\"module\" src=\"/ui/").count());
    for name in FILES {
        let kind = if name == "style" { "css" } else { "js" };
        let text = file(&world, &format!("/ui/{name}.{kind}")).await;
        for bad in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "@import",
            "http://",
            "https://",
            ".style.",
        ] {
            assert!(!text.contains(bad), "{name}: {bad}");
        }
    }
}

#[tokio::test]
async fn every_word_exists_in_both_languages() {
    let world = World::new().await;
    let words = file(&world, "/ui/words.js").await;
    let (zh, en) = words.split_once("  en: {").unwrap();
    let (en, _) = en.split_once("\nlet language").unwrap();
    let names = |text: &str| -> Vec<String> {
        let entries = text.lines().filter(|line| line.starts_with("    "));
        entries.filter_map(|line| line.trim().split_once(": \"").map(|(name, _)| name.to_owned())).collect()
    };
    assert_eq!(names(zh), names(en));
    let index = file(&world, "/").await;
    let used = index.split("data-say=\"").skip(1).filter_map(|rest| rest.split('"').next());
    for name in used {
        assert!(names(en).iter().any(|known| known == name), "{name}");
    }
}
