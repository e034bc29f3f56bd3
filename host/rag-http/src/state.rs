//! What every request shares: the system behind, the settings, sessions, counters.

use std::sync::Arc;
use std::time::Instant;

use rag_core::Rag;
use rag_core::ports::{Overview, Tune};
use tokio::sync::Semaphore;

use crate::api::resumable::Uploads;
use crate::metrics::Metrics;
use crate::session::{Attempts, Sessions};
use crate::settings::Settings;

/// Shared by all requests; cloning is cheap.
#[derive(Clone, Debug)]
pub struct AppState {
    pub(crate) rag: Arc<Rag>,
    /// None where nothing is tuned.
    pub(crate) tune: Option<Arc<dyn Tune>>,
    /// None in a process that knows nothing of itself.
    pub(crate) overview: Option<Arc<dyn Overview>>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) attempts: Arc<Attempts>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) requests: Arc<Semaphore>,
    pub(crate) uploads: Arc<Uploads>,
    pub(crate) started: Instant,
}

impl AppState {
    pub fn new(rag: Arc<Rag>, settings: Settings) -> Self {
        AppState {
            rag,
            tune: None,
            overview: None,
            requests: Arc::new(Semaphore::new(settings.requests_max)),
            sessions: Arc::default(),
            attempts: Arc::default(),
            metrics: Arc::default(),
            uploads: Arc::default(),
            started: Instant::now(),
            settings: Arc::new(settings),
        }
    }

    /// With what tunes.
    #[must_use]
    pub fn with_tune(self, tune: Arc<dyn Tune>) -> Self {
        AppState { tune: Some(tune), ..self }
    }

    /// With what the process tells of itself.
    #[must_use]
    pub fn with_overview(self, overview: Arc<dyn Overview>) -> Self {
        AppState { overview: Some(overview), ..self }
    }
}
