//! Callers that leave, queues that are full, neighbours that loop.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use futures_util::future::{join_all, poll_immediate};
use rag_core::Error;
use rag_core::error::PluginFault::CpuLimit;

use crate::retriever::{request, retriever};
use crate::{host_with, limits};

#[tokio::test]
async fn a_caller_that_leaves_frees_the_instance() {
    let mut limits = limits();
    limits.instances_max = 1;
    let host = host_with(limits);
    let hanging = retriever(&host, "wait-for-search");
    let good = retriever(&host, "good");
    for _ in 0..3 {
        let mut call = Box::pin(hanging.retrieve(request(1)));
        assert!(poll_immediate(&mut call).await.is_none());
        // The only slot is taken or soon will be: the good call waits until the hanging one is dropped.
        let mut next = pin!(good.retrieve(request(2)));
        let first = std::future::poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await;
        drop(call);
        let outcome = match first {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => next.await,
        };
        assert_eq!(outcome.unwrap().hits.len(), 2);
    }
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let mut limits = limits();
    limits.retriever_lanes = 2;
    limits.queue_max = 3;
    let host = host_with(limits);
    let hanging = retriever(&host, "wait-for-search");
    // Two run, three wait, and the others are refused; the first refusal ends the wait.
    let calls = (0..8).map(|_| {
        let hanging = Arc::clone(&hanging);
        Box::pin(async move { hanging.retrieve(request(1)).await })
    });
    let (first, _, waiting) = futures_util::future::select_all(calls).await;
    assert!(matches!(first, Err(Error::Busy { limit: 3, .. })), "{first:?}");
    let (second, _, waiting) = futures_util::future::select_all(waiting).await;
    assert!(matches!(second, Err(Error::Busy { .. })), "{second:?}");
    drop(waiting);
    assert_eq!(retriever(&host, "good").retrieve(request(1)).await.unwrap().hits.len(), 1);
}

#[tokio::test]
async fn idle_instances_make_room_for_others() {
    let mut limits = limits();
    limits.instances_max = 2;
    let host = host_with(limits);
    // Five knowledge bases, each with a warm instance when it can have one.
    let all: Vec<_> = (0..5).map(|_| retriever(&host, "good")).collect();
    for _ in 0..3 {
        for one in &all {
            assert_eq!(one.retrieve(request(2)).await.unwrap().hits.len(), 2);
        }
    }
}

#[tokio::test]
async fn loops_side_by_side_stop_nobody() {
    let host = host_with(limits());
    let looping = retriever(&host, "loop");
    let good = retriever(&host, "good");
    let loops = join_all((0..6).map(|_| looping.retrieve(request(1))));
    let goods = join_all((0..50).map(|_| good.retrieve(request(2))));
    let (loops, goods) = tokio::join!(loops, goods);
    assert!(
        loops.iter().all(|outcome| matches!(outcome, Err(Error::Plugin { fault: CpuLimit, .. }))),
        "{loops:?}"
    );
    assert!(goods.iter().all(|outcome| outcome.as_ref().is_ok_and(|found| found.hits.len() == 2)));
}

#[tokio::test]
async fn a_part_outlives_the_host_that_made_it() {
    let host = host_with(limits());
    let good = retriever(&host, "good");
    drop(host);
    assert_eq!(good.retrieve(request(2)).await.unwrap().hits.len(), 2);
}
