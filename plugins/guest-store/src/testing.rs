//! A server for native tests: it answers from a list and remembers what it was asked.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use serde_json::Value as Json;

use crate::{Http, Request, Response, Result, Sql, SqlRows, SqlValue, unavailable};

/// Answers in order; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Script(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    answers: VecDeque<Response>,
    requests: Vec<Request>,
    rows: VecDeque<SqlRows>,
    statements: Vec<(String, Vec<SqlValue>)>,
}

impl Script {
    /// The next answer.
    pub fn answer(&self, status: u16, body: &str) {
        self.0.borrow_mut().answers.push_back(Response { status, body: body.as_bytes().to_vec() });
    }

    /// The rows of the next query.
    pub fn rows(&self, columns: usize, cells: Vec<SqlValue>) {
        self.0.borrow_mut().rows.push_back(SqlRows { columns, cells });
    }

    /// What was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.0.borrow().requests.clone()
    }

    /// The body of the request with this number, as JSON.
    pub fn sent(&self, at: usize) -> Json {
        let body = self.0.borrow().requests.get(at).and_then(|request| request.body.clone());
        serde_json::from_slice(&body.unwrap_or_default()).unwrap_or(Json::Null)
    }

    /// Statements so far with their parameters.
    pub fn statements(&self) -> Vec<(String, Vec<SqlValue>)> {
        self.0.borrow().statements.clone()
    }
}

impl Http for Script {
    fn fetch(&self, request: Request) -> Result<Response> {
        let mut state = self.0.borrow_mut();
        state.requests.push(request);
        state.answers.pop_front().ok_or_else(|| unavailable("no answer is left"))
    }
}

impl Sql for Script {
    fn query(&self, _: &str, statement: &str, params: &[SqlValue]) -> Result<SqlRows> {
        let mut state = self.0.borrow_mut();
        state.statements.push((statement.to_owned(), params.to_vec()));
        state.rows.pop_front().ok_or_else(|| unavailable("no rows are left"))
    }

    fn execute(&self, _: &str, statement: &str, params: &[SqlValue]) -> Result<u64> {
        self.0.borrow_mut().statements.push((statement.to_owned(), params.to_vec()));
        Ok(1)
    }
}
