//! Users and the audit log.

use super::*;
use crate::testing::{TestStore, kb};
use rag_core::kb::KbSettings;
use rag_core::ports::{Catalog as _, ConversationKey, Conversations as _, Keys, NewRound};

const PASSWORD: &str = "一个很长的密码 long";

fn rights(role: Role) -> Rights {
    Rights { role, kbs: None, of_kbs: Vec::new() }
}

#[tokio::test]
async fn a_password_opens_and_is_kept_only_as_a_hash() {
    let store = TestStore::with_kb().await;
    let of_kbs = vec![(kb(), Role::Editor)];
    let wanted = Rights { role: Role::Reader, kbs: Some(Vec::new()), of_kbs };
    let user = store.create_user(" 小李 ", PASSWORD, &wanted).await.unwrap();
    assert_eq!((user.name.as_str(), &user.rights), ("小李", &wanted));
    assert!(user.id.starts_with(PREFIX));
    let principal = store.check_password("小李", PASSWORD).await.unwrap().unwrap();
    assert_eq!((&principal.key_id, &principal.rights), (&user.id, &wanted));
    assert_eq!(principal.rights.in_kb(&kb()), Some(Role::Editor));
    for (name, password) in [("小李", "wrong"), ("小李", ""), ("小王", PASSWORD)] {
        assert_eq!(store.check_password(name, password).await.unwrap(), None, "{name} {password}");
    }
    let id = user.id.clone();
    let hash: String = store
        .read(move |connection| {
            Ok(connection.query_row("SELECT password FROM users WHERE id = ?1", [id], |row| row.get(0))?)
        })
        .await
        .unwrap();
    assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");

    let new = UserChange { password: Some("another long one".into()), ..UserChange::default() };
    store.update_user(&user.id, &new).await.unwrap();
    assert_eq!(store.check_password("小李", PASSWORD).await.unwrap(), None);
    assert!(store.check_password("小李", "another long one").await.unwrap().is_some());
    store.update_user(&user.id, &UserChange { disabled: Some(true), ..UserChange::default() }).await.unwrap();
    assert_eq!(store.check_password("小李", "another long one").await.unwrap(), None);
    assert_eq!(store.user_principal(&user.id).await.unwrap(), None);
}

#[tokio::test]
async fn names_and_passwords_are_checked() {
    let store = TestStore::with_kb().await;
    let refused = async |name: &str, password: &str| {
        let result = store.create_user(name, password, &rights(Role::Admin)).await;
        assert!(matches!(result, Err(Error::InvalidInput { .. })), "{name:?} {password:?}: {result:?}");
    };
    refused("", PASSWORD).await;
    refused("a\nb", PASSWORD).await;
    refused(&"x".repeat(101), PASSWORD).await;
    refused("ann", "short").await;
    refused("ann", &"x".repeat(257)).await;
    refused("annette", "my name is Annette").await;
    store.create_user("Ann", PASSWORD, &rights(Role::Admin)).await.unwrap();
    let again = store.create_user("ann", PASSWORD, &rights(Role::Reader)).await;
    assert!(matches!(again, Err(Error::Conflict { .. })), "{again:?}");
    let nowhere =
        Rights { of_kbs: vec![(KbName::parse("nowhere").unwrap(), Role::Admin)], ..rights(Role::Reader) };
    let refused = store.create_user("bob", PASSWORD, &nowhere).await;
    assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
    assert_eq!(store.users().await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_last_administrator_stays_among_users_and_keys() {
    let store = TestStore::with_kb().await;
    let user = store.create_user("ann", PASSWORD, &rights(Role::Admin)).await.unwrap();
    let conflict = |result: Result<()>| assert!(matches!(result, Err(Error::Conflict { .. })), "{result:?}");
    conflict(store.delete_user(&user.id).await);
    let lower = UserChange { rights: Some(rights(Role::Editor)), ..UserChange::default() };
    conflict(store.update_user(&user.id, &lower).await.map(|_| ()));
    let (_, key) = Keys::create(&**store, "k", Role::Admin, None).await.unwrap();
    store.delete_user(&user.id).await.unwrap();
    conflict(store.revoke(&key.key_id).await);
    assert!(matches!(store.delete_user(&user.id).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn a_deleted_user_takes_conversations_along_and_a_deleted_base_takes_rights() {
    let store = TestStore::with_kb().await;
    Keys::create(&**store, "k", Role::Admin, None).await.unwrap();
    let other = KbName::parse("other").unwrap();
    store.create_kb(&other, &KbSettings::default()).await.unwrap();
    let own = Rights {
        role: Role::Reader,
        kbs: Some(vec![kb(), other.clone()]),
        of_kbs: vec![(kb(), Role::Admin), (other.clone(), Role::Editor)],
    };
    let user = store.create_user("ann", PASSWORD, &own).await.unwrap();
    let (_, key) =
        Keys::create(&**store, "scoped", Role::Editor, Some(std::slice::from_ref(&other))).await.unwrap();
    let key_of = |owner: &str| ConversationKey { owner: owner.into(), kb: kb(), id: "c".into() };
    let round = NewRound { question: "?".into(), answer: "!".into(), refused: false, detail: "{}".into() };
    store.append_round(&key_of(&user.id), &round).await.unwrap();
    store.append_round(&key_of("somebody"), &round).await.unwrap();

    store.delete_kb(&other).await.unwrap();
    let left = Rights { kbs: Some(vec![kb()]), of_kbs: vec![(kb(), Role::Admin)], ..own };
    assert_eq!(store.users().await.unwrap()[0].rights, left);
    let keys = Keys::list(&**store).await.unwrap();
    let scoped = keys.into_iter().find(|found| found.key_id == key.key_id).unwrap();
    assert_eq!(scoped.rights.kbs, Some(Vec::new()), "it reaches nothing now, not everything");

    store.delete_user(&user.id).await.unwrap();
    assert!(store.rounds(&key_of(&user.id), None, 10).await.unwrap().is_empty());
    assert_eq!(store.rounds(&key_of("somebody"), None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_audit_log_is_bounded_and_read_backwards() {
    let store = TestStore::with_kb().await;
    let entry = |number: i64| AuditEntry {
        at_ms: number,
        actor: if number % 2 == 0 { "even" } else { "odd" }.into(),
        actor_name: "甲".repeat(1_000),
        action: "DELETE /x".into(),
        target: format!("/x/{number}"),
        status: 204,
        peer: "127.0.0.1".into(),
        request_id: String::new(),
    };
    for number in 1..=5 {
        store.audit(&entry(number)).await.unwrap();
    }
    let query = AuditQuery { actor: Some("odd".into()), limit: 2, ..AuditQuery::default() };
    let page = store.audit_log(&query).await.unwrap();
    assert_eq!(page.iter().map(|(id, entry)| (*id, entry.at_ms)).collect::<Vec<_>>(), [(5, 5), (3, 3)]);
    assert_eq!(page[0].1.actor_name, "甲".repeat(AUDIT_BYTES_MAX / 3));
    let page = store.audit_log(&AuditQuery { before: Some(3), ..query }).await.unwrap();
    assert_eq!(page.len(), 1);
    let target = AuditQuery { target: Some("/x/4".into()), limit: 9, ..AuditQuery::default() };
    assert_eq!(store.audit_log(&target).await.unwrap()[0].0, 4);
    // As after a hundred thousand more.
    store
        .write(
            |transaction| Ok(transaction.execute("UPDATE audit SET row = row + 100000 WHERE row = 5", [])?),
        )
        .await
        .unwrap();
    store.audit(&entry(6)).await.unwrap();
    let all = store.audit_log(&AuditQuery { limit: 100, ..AuditQuery::default() }).await.unwrap();
    assert_eq!(all.len(), 2);
}
