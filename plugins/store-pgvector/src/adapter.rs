//! The operations of a store as statements. A table names the collections, one table each holds their rows.

use guest_store::fields::by_kind;
use guest_store::filter::{Asked, ask};
use guest_store::search::{self, Found};
use guest_store::{
    Code, Collection, Error, Filter, Hit, Metric, Result, Row, Rows, Settings, Sql, SqlRows, SqlValue, Store,
    check_shape,
};
use serde_json::json;

use crate::condition::Conditions;

/// Rows of one statement.
const ROWS_OF_STATEMENT: usize = 128;
/// Components that pgvector's graph index takes.
const HNSW_DIM_MAX: u32 = 2_000;

/// Metrics: our name, pgvector's operator, its operator class, and the score of a distance.
type Scored = (Metric, &'static str, &'static str, fn(f64) -> f64);
const METRICS: [Scored; 3] = [
    (Metric::Cosine, "<=>", "vector_cosine_ops", |distance| 1.0 - distance),
    (Metric::Dot, "<#>", "vector_ip_ops", |distance| -distance),
    (Metric::Euclidean, "<->", "vector_l2_ops", |distance| -distance),
];

/// A granted database.
pub struct PgVector {
    sql: Box<dyn Sql>,
    connection: String,
    graph: bool,
}

impl std::fmt::Debug for PgVector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PostgreSQL database '{}'", self.connection)
    }
}

/// A collection and its table.
struct Known {
    table: String,
    shape: Collection,
}

impl PgVector {
    /// Reads the settings; nothing is asked yet.
    pub fn open(settings: &str, sql: Box<dyn Sql>) -> Result<Self> {
        let settings = Settings::parse(settings, &["connection", "index"]).map_err(Error::invalid)?;
        let connection = settings.text("connection", "vectors").map_err(Error::invalid)?;
        let graph =
            settings.choice("index", &[("none", false), ("hnsw", true)], false).map_err(Error::invalid)?;
        Ok(PgVector { sql, connection, graph })
    }

    fn rows(&self, statement: &str, params: &[SqlValue]) -> Result<SqlRows> {
        self.sql.query(&self.connection, statement, params)
    }

    fn execute(&self, statement: &str, params: &[SqlValue]) -> Result<u64> {
        self.sql.execute(&self.connection, statement, params)
    }

    fn strange(&self) -> Error {
        Error::internal(format!("{self:?}: the tables ragkit_… were changed by another program"))
    }

    fn known(&self, name: &str) -> Result<Known> {
        let found = self.rows(
            "SELECT id, dim, metric FROM ragkit_collections WHERE name = $1",
            &[SqlValue::Text(name.to_owned())],
        )?;
        let Some(row) = found.rows().next() else {
            let message = format!("{self:?} has no collection '{name}'");
            return Err(Error { code: Code::NotFound, message, retryable: false });
        };
        let [SqlValue::Integer(id), SqlValue::Integer(dim), SqlValue::Text(metric)] = row else {
            return Err(self.strange());
        };
        let (metric, dim) = (self.metric(metric)?, u32::try_from(*dim).map_err(|_| self.strange())?);
        let shape = Collection { name: name.to_owned(), dim, metric };
        Ok(Known { table: format!("ragkit_rows_{id}"), shape })
    }

    fn metric(&self, name: &str) -> Result<Metric> {
        Metric::ALL.into_iter().find(|metric| metric.name() == name).ok_or_else(|| self.strange())
    }

    fn upsert_batch(&self, table: &str, rows: &[Row]) -> Result<()> {
        let mut params = Vec::with_capacity(rows.len() * 4);
        let mut values = Vec::with_capacity(rows.len());
        for row in rows {
            let at = params.len();
            values.push(format!("(${}, ${}, ${}, ${}::jsonb)", at + 1, at + 2, at + 3, at + 4));
            params.push(SqlValue::Text(row.id.clone()));
            params.push(SqlValue::Floats(row.vector.clone()));
            params.push(SqlValue::Text(row.text.replace('\0', " ")));
            params.push(SqlValue::Text(by_kind(&row.fields).to_string()));
        }
        let statement = format!(
            "INSERT INTO {table} (id, embedding, body, fields) VALUES {} ON CONFLICT (id) DO UPDATE SET \
             embedding = excluded.embedding, body = excluded.body, fields = excluded.fields",
            values.join(", ")
        );
        self.execute(&statement, &params).map(|_| ())
    }
}

impl Store for PgVector {
    fn create(&self, collection: &Collection) -> Result<()> {
        self.execute("CREATE EXTENSION IF NOT EXISTS vector", &[])?;
        self.execute(
            "CREATE TABLE IF NOT EXISTS ragkit_collections (name text PRIMARY KEY, \
             id bigint GENERATED ALWAYS AS IDENTITY, dim integer NOT NULL, metric text NOT NULL)",
            &[],
        )?;
        self.execute(
            "INSERT INTO ragkit_collections (name, dim, metric) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            &[
                SqlValue::Text(collection.name.clone()),
                SqlValue::Integer(i64::from(collection.dim)),
                SqlValue::Text(collection.metric.name().to_owned()),
            ],
        )?;
        let Known { table, shape } = self.known(&collection.name)?;
        check_shape(&shape, collection)?;
        let dim = collection.dim;
        self.execute(
            &format!(
                "CREATE TABLE IF NOT EXISTS {table} (id text COLLATE \"C\" PRIMARY KEY, \
                 embedding vector({dim}) NOT NULL, body text NOT NULL, fields jsonb NOT NULL)"
            ),
            &[],
        )?;
        if self.graph && dim <= HNSW_DIM_MAX {
            let class =
                METRICS.iter().find(|(metric, ..)| *metric == shape.metric).map_or("", |found| found.2);
            let statement = format!(
                "CREATE INDEX IF NOT EXISTS {table}_graph ON {table} USING hnsw (embedding {class}) \
                 WITH (m = 16, ef_construction = 128)"
            );
            self.execute(&statement, &[])?;
        }
        Ok(())
    }

    fn drop(&self, name: &str) -> Result<()> {
        let known = match self.known(name) {
            Err(error) if error.code == Code::NotFound => return Ok(()),
            known => known?,
        };
        self.execute(&format!("DROP TABLE IF EXISTS {}", known.table), &[])?;
        let name = SqlValue::Text(name.to_owned());
        self.execute("DELETE FROM ragkit_collections WHERE name = $1", &[name]).map(|_| ())
    }

    fn list(&self) -> Result<Vec<Collection>> {
        let found = match self.rows("SELECT name, dim, metric FROM ragkit_collections ORDER BY name", &[]) {
            // Nothing was ever created.
            Err(error) if error.code == Code::NotFound => return Ok(Vec::new()),
            found => found?,
        };
        let collection = |row: &[SqlValue]| match row {
            [SqlValue::Text(name), SqlValue::Integer(dim), SqlValue::Text(metric)] => Ok(Collection {
                name: name.clone(),
                dim: u32::try_from(*dim).map_err(|_| self.strange())?,
                metric: self.metric(metric)?,
            }),
            _ => Err(self.strange()),
        };
        found.rows().map(collection).collect()
    }

    fn count(&self, name: &str) -> Result<u64> {
        let found = self.rows(&format!("SELECT count(*) FROM {}", self.known(name)?.table), &[])?;
        match found.cells.as_slice() {
            [SqlValue::Integer(count)] => u64::try_from(*count).map_err(|_| self.strange()),
            _ => Err(self.strange()),
        }
    }

    fn upsert(&self, name: &str, rows: &Rows) -> Result<()> {
        let known = self.known(name)?;
        if !rows.rows.is_empty() {
            known.shape.check_dim(rows.dim)?;
        }
        rows.rows.chunks(ROWS_OF_STATEMENT).try_for_each(|batch| self.upsert_batch(&known.table, batch))
    }

    fn delete(&self, name: &str, ids: &[String]) -> Result<()> {
        let table = self.known(name)?.table;
        let statement = format!(
            "DELETE FROM {table} WHERE id IN (SELECT jsonb_array_elements_text($1::jsonb) COLLATE \"C\")"
        );
        self.execute(&statement, &[SqlValue::Text(json!(ids).to_string())]).map(|_| ())
    }

    fn query(
        &self,
        name: &str,
        dim: u32,
        queries: &[&[f32]],
        k: u32,
        filter: Option<&Filter>,
    ) -> Result<Vec<Vec<Hit>>> {
        let known = self.known(name)?;
        known.shape.check_dim(dim)?;
        let (_, operator, _, score) = METRICS
            .into_iter()
            .find(|(metric, ..)| *metric == known.shape.metric)
            .ok_or_else(|| self.strange())?;
        // The graph orders by distance only.
        let ties = if self.graph { "" } else { ", id" };
        let mut params = vec![SqlValue::Null];
        let condition = match ask(filter, &mut Conditions)? {
            Asked::Nothing => return Ok(vec![Vec::new(); queries.len()]),
            Asked::Rows { clause: Some(clause), .. } => format!(" WHERE {}", clause.number(&mut params)),
            Asked::Rows { clause: None, .. } => String::new(),
        };
        let table = &known.table;
        let one = |query: &&[f32]| {
            let mut params = params.clone();
            params[0] = SqlValue::Floats(query.to_vec());
            search::nearest(k, filter, true, |limit| {
                let statement = format!(
                    "SELECT id, embedding {operator} $1::vector FROM {table}{condition} ORDER BY 2{ties} LIMIT {limit}"
                );
                let found = self.rows(&statement, &params)?;
                let hit = |row: &[SqlValue]| match row {
                    [SqlValue::Text(id), SqlValue::Number(distance)] => {
                        Ok(Found { id: id.clone(), score: score(*distance) as f32, fields: Vec::new() })
                    }
                    _ => Err(self.strange()),
                };
                found.rows().map(hit).collect()
            })
        };
        queries.iter().map(one).collect()
    }

    fn ping(&self) -> Result<String> {
        let found = self.rows(
            "SELECT current_setting('server_version'), \
             (SELECT extversion::text FROM pg_extension WHERE extname = 'vector')",
            &[],
        )?;
        match found.cells.as_slice() {
            [SqlValue::Text(server), SqlValue::Text(extension)] => {
                Ok(format!("PostgreSQL {server} with pgvector {extension}"))
            }
            [SqlValue::Text(server), _] => Ok(format!("PostgreSQL {server}, pgvector not created yet")),
            _ => Err(self.strange()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_store::testing::Script;
    use guest_store::{Compare, Node, Value};

    fn open(script: &Script, settings: &str) -> PgVector {
        PgVector::open(settings, Box::new(script.clone())).unwrap()
    }

    fn known(script: &Script) {
        let shape = [SqlValue::Integer(7), SqlValue::Integer(2), SqlValue::Text("cosine".into())];
        script.rows(3, shape.to_vec());
    }

    #[test]
    fn values_are_parameters_and_never_part_of_a_statement() {
        let script = Script::default();
        known(&script);
        script.rows(2, vec![SqlValue::Text("a".into()), SqlValue::Number(0.25)]);
        let evil = "'; DROP TABLE x; --".to_owned();
        let filter = Filter(vec![
            Node::Compare(evil.clone(), Compare::Lt, Value::Text(evil.clone())),
            Node::OneOf("page".into(), vec![Value::Integer(1), Value::Text(evil.clone())]),
            Node::NoneOf(vec![0, 1]),
        ]);
        let hits = open(&script, "").query(&evil, 2, &[&[1.0, 0.0]], 3, Some(&filter)).unwrap();
        assert_eq!(hits, [[Hit { id: "a".into(), score: 0.75 }]]);
        for (statement, _) in script.statements() {
            assert!(!statement.contains("DROP"), "{statement}");
        }
        let (statement, params) = script.statements().pop().unwrap();
        assert_eq!(params.len(), 7, "{statement}");
        assert!(statement.ends_with("ORDER BY 2, id LIMIT 3"), "{statement}");
        assert!(
            statement.contains("NOT COALESCE((fields -> 's' ->> $2::text)::text COLLATE \"C\" < $3::text")
        );
    }

    #[test]
    fn a_graph_is_built_where_pgvector_has_one() {
        for (settings, dim, graph) in
            [("", 2, false), (r#"{"index": "hnsw"}"#, 2, true), (r#"{"index": "hnsw"}"#, 3_000, false)]
        {
            let script = Script::default();
            let shape = [SqlValue::Integer(7), SqlValue::Integer(dim), SqlValue::Text("cosine".into())];
            script.rows(3, shape.to_vec());
            let dim = u32::try_from(dim).unwrap();
            let collection = Collection { name: "c".into(), dim, metric: Metric::Cosine };
            open(&script, settings).create(&collection).unwrap();
            let made = script.statements().iter().any(|(statement, _)| statement.contains("USING hnsw"));
            assert_eq!(made, graph, "{settings} {dim}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        let script = Script::default();
        script.rows(3, vec![]);
        let error = open(&script, "").count("c").unwrap_err();
        assert_eq!(error.code, Code::NotFound);
        assert!(error.message.contains("'vectors'"), "{error:?}");
        for bad in [r#"{"index": "ivf"}"#, r#"{"connection": ""}"#, r#"{"url": "x"}"#] {
            assert!(PgVector::open(bad, Box::new(Script::default())).is_err());
        }
        known(&script);
        let rows = Rows::new(vec!["a".into()], 3, &[0.; 3], vec![String::new()], vec![vec![]]).unwrap();
        assert!(open(&script, "").upsert("c", &rows).unwrap_err().message.contains("not 3"));
    }
}
