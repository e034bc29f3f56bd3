//! What every plugin gets: log and settings; and the document, for parsers.

use wasmtime::component::Resource;

use super::invalid;
use crate::bindings::ragkit::host::{blob, config, log};
use crate::bindings::ragkit::types::types as wit;
use crate::state::{OpenBlob, State, refusal};

/// Bytes of one read of a document.
const READ_BYTES_MAX: u32 = 1 << 20;

impl log::Host for State {
    fn enabled(&mut self, level: log::Level) -> wasmtime::Result<bool> {
        Ok(is_kept(level))
    }

    fn log(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        // A refused message is dropped: there is nobody to tell.
        if self.count_call()?.is_ok() && is_kept(level) {
            self.sink.log(level, &message);
        }
        Ok(())
    }
}

/// Whether anybody keeps what plugins log on this level.
fn is_kept(level: log::Level) -> bool {
    match level {
        log::Level::Trace => tracing::enabled!(target: "plugin", tracing::Level::TRACE),
        log::Level::Debug => tracing::enabled!(target: "plugin", tracing::Level::DEBUG),
        log::Level::Info => tracing::enabled!(target: "plugin", tracing::Level::INFO),
        log::Level::Warn => tracing::enabled!(target: "plugin", tracing::Level::WARN),
        log::Level::Error => tracing::enabled!(target: "plugin", tracing::Level::ERROR),
    }
}

impl config::Host for State {
    fn settings(&mut self) -> wasmtime::Result<String> {
        Ok(self.settings.to_string())
    }
}

impl blob::Host for State {}

impl blob::HostBlob for State {
    async fn size(&mut self, blob: Resource<OpenBlob>) -> wasmtime::Result<u64> {
        Ok(self.table.get(&blob)?.blob.size())
    }

    async fn name(&mut self, blob: Resource<OpenBlob>) -> wasmtime::Result<String> {
        Ok(self.table.get(&blob)?.blob.name().to_owned())
    }

    async fn media_type(&mut self, blob: Resource<OpenBlob>) -> wasmtime::Result<String> {
        Ok(self.table.get(&blob)?.blob.media_type().to_owned())
    }

    async fn read_at(
        &mut self,
        blob: Resource<OpenBlob>,
        offset: u64,
        len: u32,
    ) -> wasmtime::Result<Result<Vec<u8>, wit::Error>> {
        if len > READ_BYTES_MAX {
            return Ok(Err(invalid("read-at: at most 1 MiB in one call")));
        }
        let open = self.table.get_mut(&blob)?;
        let Some(left) = open.bytes_left.checked_sub(u64::from(len)) else {
            return Ok(Err(refusal(wit::ErrorCode::Quota, "read-at: the document was read too often")));
        };
        open.bytes_left = left;
        let source = open.blob.clone();
        let read = self.perform(async move { source.read_at(offset, len).await }).await?;
        Ok(read.map(|bytes| bytes.to_vec()))
    }

    async fn drop(&mut self, blob: Resource<OpenBlob>) -> wasmtime::Result<()> {
        self.table.delete(blob)?;
        Ok(())
    }
}
