//! The exports of a store's component, over its [`Store`].

use std::marker::PhantomData;

use self::bindings::exports::ragkit::plugin::{info, vector_store as exported};
use self::bindings::ragkit::host::{config, http, sql, vector_index};
use self::bindings::ragkit::types::types as wit;
use crate::index::{Index, Scanned};
use crate::{
    Collection, Compare, Filter, Hit, Http, Metric, Node, Request, Response, Result, Rows, Sql, SqlRows,
    SqlValue, Store, Value,
};

/// As `wit-bindgen` makes them.
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "vector-store-plugin",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "guest_store::bindings",
    });
}

/// Who a store is and how it is opened.
pub trait Exports: 'static {
    const ID: &'static str;
    const VERSION: &'static str;
    const DESCRIPTION: &'static str;

    fn open(settings: &str) -> Result<Box<dyn Store>>;
}

/// The component of a store.
#[derive(Debug)]
pub struct Component<S>(PhantomData<S>);

impl<S: Exports> info::Guest for Component<S> {
    fn describe() -> info::Info {
        info::Info {
            id: S::ID.to_owned(),
            version: S::VERSION.to_owned(),
            description: S::DESCRIPTION.to_owned(),
        }
    }
}

fn opened<S: Exports, T>(work: impl FnOnce(&dyn Store) -> Result<T>) -> Result<T, wit::Error> {
    S::open(&config::settings()).and_then(|store| work(store.as_ref())).map_err(to_host)
}

impl<S: Exports> exported::Guest for Component<S> {
    fn create(collection: exported::Collection) -> Result<(), wit::Error> {
        let wanted =
            Collection { name: collection.name, dim: collection.dim, metric: metric_from(collection.metric) };
        opened::<S, _>(|store| store.create(&wanted))
    }

    fn drop(name: String) -> Result<(), wit::Error> {
        opened::<S, _>(|store| store.drop(&name))
    }

    fn list() -> Result<Vec<exported::Collection>, wit::Error> {
        let listed = opened::<S, _>(|store| store.list())?;
        let collection =
            |c: Collection| exported::Collection { name: c.name, dim: c.dim, metric: metric_to(c.metric) };
        Ok(listed.into_iter().map(collection).collect())
    }

    fn count(name: String) -> Result<u64, wit::Error> {
        opened::<S, _>(|store| store.count(&name))
    }

    fn upsert(name: String, batch: exported::Batch) -> Result<(), wit::Error> {
        opened::<S, _>(|store| {
            let fields =
                batch.fields.into_iter().map(|row| row.into_iter().map(field_from).collect()).collect();
            let rows = Rows::new(batch.ids, batch.vectors.dim, &batch.vectors.data, batch.texts, fields)?;
            store.upsert(&name, &rows)
        })
    }

    fn delete(name: String, ids: Vec<String>) -> Result<(), wit::Error> {
        opened::<S, _>(|store| {
            if ids.len() > crate::ROWS_MAX {
                let most = crate::ROWS_MAX;
                let message = format!("at most {most} ids are deleted at once, not {}", ids.len());
                return Err(crate::Error::invalid(message));
            }
            store.delete(&name, &ids)
        })
    }

    fn query(
        name: String,
        queries: wit::Vectors,
        k: u32,
        filter: Option<wit::Filter>,
    ) -> Result<Vec<Vec<wit::Hit>>, wit::Error> {
        let filter = filter.map(filter_from);
        let rows: Vec<&[f32]> = queries.data.chunks_exact((queries.dim as usize).max(1)).collect();
        let lists = opened::<S, _>(|store| store.query(&name, queries.dim, &rows, k, filter.as_ref()))?;
        let hit = |hit: crate::Hit| wit::Hit { chunk: hit.id, score: hit.score };
        Ok(lists.into_iter().map(|hits| hits.into_iter().map(hit).collect()).collect())
    }

    fn ping() -> Result<String, wit::Error> {
        let said = opened::<S, _>(|store| store.ping())?;
        Ok(format!("{said}, adapter {}", S::VERSION))
    }
}

fn metric_from(metric: wit::Metric) -> Metric {
    match metric {
        wit::Metric::Cosine => Metric::Cosine,
        wit::Metric::Dot => Metric::Dot,
        wit::Metric::Euclidean => Metric::Euclidean,
    }
}

fn metric_to(metric: Metric) -> wit::Metric {
    match metric {
        Metric::Cosine => wit::Metric::Cosine,
        Metric::Dot => wit::Metric::Dot,
        Metric::Euclidean => wit::Metric::Euclidean,
    }
}

fn field_from((name, value): (String, wit::Value)) -> (String, Value) {
    (name, value_from(value))
}

fn value_from(value: wit::Value) -> Value {
    match value {
        wit::Value::Text(text) => Value::Text(text),
        wit::Value::Integer(number) => Value::Integer(number),
        wit::Value::Number(number) => Value::Number(number),
        wit::Value::Boolean(flag) => Value::Boolean(flag),
    }
}

fn field_to((name, value): &(String, Value)) -> (String, wit::Value) {
    (name.clone(), value_to(value))
}

fn value_to(value: &Value) -> wit::Value {
    match value {
        Value::Text(text) => wit::Value::Text(text.clone()),
        Value::Integer(number) => wit::Value::Integer(*number),
        Value::Number(number) => wit::Value::Number(*number),
        Value::Boolean(flag) => wit::Value::Boolean(*flag),
    }
}

fn filter_to(filter: &Filter) -> wit::Filter {
    let op = |op: Compare| match op {
        Compare::Eq => wit::CompareOp::Eq,
        Compare::Ne => wit::CompareOp::Ne,
        Compare::Lt => wit::CompareOp::Lt,
        Compare::Le => wit::CompareOp::Le,
        Compare::Gt => wit::CompareOp::Gt,
        Compare::Ge => wit::CompareOp::Ge,
    };
    let node = |node: &Node| match node {
        Node::AllOf(children) => wit::FilterNode::AllOf(children.clone()),
        Node::AnyOf(children) => wit::FilterNode::AnyOf(children.clone()),
        Node::NoneOf(children) => wit::FilterNode::NoneOf(children.clone()),
        Node::Compare(field, how, value) => wit::FilterNode::Compare(wit::Comparison {
            field: field.clone(),
            op: op(*how),
            value: value_to(value),
        }),
        Node::OneOf(field, values) => wit::FilterNode::OneOf(wit::Membership {
            field: field.clone(),
            values: values.iter().map(value_to).collect(),
        }),
        Node::Exists(field) => wit::FilterNode::Exists(field.clone()),
    };
    wit::Filter { nodes: filter.0.iter().map(node).collect() }
}

fn filter_from(filter: wit::Filter) -> Filter {
    let op = |op: wit::CompareOp| match op {
        wit::CompareOp::Eq => Compare::Eq,
        wit::CompareOp::Ne => Compare::Ne,
        wit::CompareOp::Lt => Compare::Lt,
        wit::CompareOp::Le => Compare::Le,
        wit::CompareOp::Gt => Compare::Gt,
        wit::CompareOp::Ge => Compare::Ge,
    };
    let node = |node: wit::FilterNode| match node {
        wit::FilterNode::AllOf(children) => Node::AllOf(children),
        wit::FilterNode::AnyOf(children) => Node::AnyOf(children),
        wit::FilterNode::NoneOf(children) => Node::NoneOf(children),
        wit::FilterNode::Compare(c) => Node::Compare(c.field, op(c.op), value_from(c.value)),
        wit::FilterNode::OneOf(m) => Node::OneOf(m.field, m.values.into_iter().map(value_from).collect()),
        wit::FilterNode::Exists(field) => Node::Exists(field),
    };
    Filter(filter.nodes.into_iter().map(node).collect())
}

/// What the host grants.
#[derive(Debug, Clone, Copy)]
pub struct Host;

impl Http for Host {
    fn fetch(&self, request: Request) -> Result<Response> {
        let method = match request.method {
            crate::Method::Get => http::Method::Get,
            crate::Method::Post => http::Method::Post,
            crate::Method::Put => http::Method::Put,
            crate::Method::Delete => http::Method::Delete,
        };
        let Request { url, headers, body, .. } = request;
        let answer = http::fetch(&http::Request { method, url, headers, body }).map_err(from_host)?;
        Ok(Response { status: answer.status, body: answer.body })
    }
}

impl Sql for Host {
    fn query(&self, connection: &str, statement: &str, params: &[SqlValue]) -> Result<SqlRows> {
        let params: Vec<sql::Param> = params.iter().map(param_to).collect();
        let found = sql::query(connection, statement, &params).map_err(from_host)?;
        let cells = found.cells.into_iter().map(param_from).collect();
        Ok(SqlRows { columns: found.columns.len(), cells })
    }

    fn execute(&self, connection: &str, statement: &str, params: &[SqlValue]) -> Result<u64> {
        let params: Vec<sql::Param> = params.iter().map(param_to).collect();
        sql::execute(connection, statement, &params).map_err(from_host)
    }
}

impl Index for Host {
    fn create(&self, collection: &Collection) -> Result<()> {
        let Collection { name, dim, metric } = collection;
        vector_index::create(name, *dim, metric_to(*metric)).map_err(from_host)
    }

    fn drop(&self, name: &str) -> Result<()> {
        vector_index::drop(name).map_err(from_host)
    }

    fn names(&self) -> Result<Vec<String>> {
        vector_index::names().map_err(from_host)
    }

    fn count(&self, name: &str) -> Result<u64> {
        vector_index::count(name).map_err(from_host)
    }

    fn upsert(&self, name: &str, rows: &Rows) -> Result<()> {
        let ids = rows.rows.iter().map(|row| row.id.clone()).collect();
        let data = rows.rows.iter().flat_map(|row| row.vector.iter().copied()).collect();
        let fields: Vec<_> = rows.rows.iter().map(|row| row.fields.iter().map(field_to).collect()).collect();
        let rows = vector_index::Rows { ids, vectors: wit::Vectors { dim: rows.dim, data } };
        vector_index::upsert(name, &rows, &fields).map_err(from_host)
    }

    fn delete(&self, name: &str, ids: &[String]) -> Result<()> {
        vector_index::delete(name, ids).map_err(from_host)
    }

    fn query(
        &self,
        name: &str,
        dim: u32,
        queries: &[&[f32]],
        k: u32,
        filter: Option<&Filter>,
    ) -> Result<Vec<Vec<Hit>>> {
        let asked = wit::Vectors { dim, data: queries.concat() };
        let filter = filter.map(filter_to);
        let lists = vector_index::query(name, &asked, k, filter.as_ref()).map_err(from_host)?;
        let hit = |hit: wit::Hit| Hit { id: hit.chunk, score: hit.score };
        Ok(lists.into_iter().map(|hits| hits.into_iter().map(hit).collect()).collect())
    }

    fn scan(&self, name: &str, after: Option<&str>, limit: u32) -> Result<Scanned> {
        let rows = vector_index::scan(name, after, limit).map_err(from_host)?;
        let vectors = rows.vectors.data.chunks_exact((rows.vectors.dim as usize).max(1));
        Ok((rows.vectors.dim, rows.ids.into_iter().zip(vectors.map(<[f32]>::to_vec)).collect()))
    }
}

fn param_to(value: &SqlValue) -> sql::Param {
    match value {
        SqlValue::Null => sql::Param::Null,
        SqlValue::Boolean(flag) => sql::Param::Boolean(*flag),
        SqlValue::Integer(number) => sql::Param::Integer(*number),
        SqlValue::Number(number) => sql::Param::Number(*number),
        SqlValue::Text(text) => sql::Param::Text(text.clone()),
        SqlValue::Bytes(bytes) => sql::Param::Bytes(bytes.clone()),
        SqlValue::Floats(floats) => sql::Param::Floats(floats.clone()),
    }
}

fn param_from(value: sql::Param) -> SqlValue {
    match value {
        sql::Param::Null => SqlValue::Null,
        sql::Param::Boolean(flag) => SqlValue::Boolean(flag),
        sql::Param::Integer(number) => SqlValue::Integer(number),
        sql::Param::Number(number) => SqlValue::Number(number),
        sql::Param::Text(text) => SqlValue::Text(text),
        sql::Param::Bytes(bytes) => SqlValue::Bytes(bytes),
        sql::Param::Floats(floats) => SqlValue::Floats(floats),
    }
}

guest_settings::host_errors!(wit);
