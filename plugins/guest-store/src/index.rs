//! The host's own vectors as an adapter may use them: for stores that keep nothing by themselves but an order.

use crate::{Code, Collection, Error, Filter, Hit, Metric, Result, Rows};

/// Rows of one `scan`.
pub const SCAN_MAX: u32 = 512;

/// Dimension, and rows in the order of their ids.
pub type Scanned = (u32, Vec<(String, Vec<f32>)>);

/// The host's `vector-index`, whose operations say what they do in `wit/deps/ragkit-host/host.wit`.
pub trait Index {
    fn create(&self, collection: &Collection) -> Result<()>;
    fn drop(&self, name: &str) -> Result<()>;
    fn names(&self) -> Result<Vec<String>>;
    fn count(&self, name: &str) -> Result<u64>;
    fn upsert(&self, name: &str, rows: &Rows) -> Result<()>;
    fn delete(&self, name: &str, ids: &[String]) -> Result<()>;
    fn query(
        &self,
        name: &str,
        dim: u32,
        queries: &[&[f32]],
        k: u32,
        filter: Option<&Filter>,
    ) -> Result<Vec<Vec<Hit>>>;
    /// At most [`SCAN_MAX`] rows.
    fn scan(&self, name: &str, after: Option<&str>, limit: u32) -> Result<Scanned>;
}

/// A collection's shape; none when it is not there. The host names collections without it, but its `create` does nothing
/// for the shape that a collection has and is a conflict for any other.
pub fn shape_of(index: &dyn Index, name: &str) -> Result<Option<Collection>> {
    let dim = match index.scan(name, None, 1) {
        Ok((dim, _)) => dim,
        Err(error) if error.code == Code::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for metric in Metric::ALL {
        let collection = Collection { name: name.to_owned(), dim, metric };
        match index.create(&collection) {
            Ok(()) => return Ok(Some(collection)),
            Err(error) if error.code == Code::Conflict => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::internal(format!("collection '{name}' has a shape that the host does not tell")))
}
