//! What this process tells of itself: which services run where, what their proxies count, and its log.

use std::time::Duration;

use async_trait::async_trait;
use rag_bus::proxy::Watch;
use rag_bus::{Client, remote};
use rag_core::ports::{LogLine, Overview, ProxyState, ServiceState};

use crate::logbook::LogBook;

/// How long a service elsewhere may take to say that it is there.
const ANSWER: Duration = Duration::from_secs(3);

/// A process that serves HTTP.
#[derive(Debug)]
pub(crate) struct ThisProcess {
    pub(crate) log: LogBook,
    /// Of the llm service, when it runs elsewhere.
    pub(crate) llm: Option<Client>,
    /// Why nothing is tuned here; none where something can be.
    pub(crate) no_tuning: Option<String>,
    /// The proxies of this process.
    pub(crate) proxies: Vec<Watch>,
}

#[async_trait]
impl Overview for ThisProcess {
    async fn services(&self) -> Vec<ServiceState> {
        let here = |name: &str| ServiceState {
            name: name.to_owned(),
            address: None,
            state: Ok(String::new()),
            proxy: self.proxy(name),
        };
        let tuning = self.no_tuning.clone().map_or(Ok(String::new()), Err);
        vec![
            here("web"),
            match &self.llm {
                None => here("llm"),
                Some(client) => elsewhere(client).await,
            },
            here("index"),
            ServiceState { state: tuning, ..here("tuning") },
        ]
    }

    fn log(&self, after: u64) -> Vec<LogLine> {
        self.log.after(after)
    }
}

impl ThisProcess {
    fn proxy(&self, service: &str) -> Option<ProxyState> {
        let stats = self.proxies.iter().find(|proxy| proxy.service() == service)?.stats();
        Some(ProxyState {
            workers: stats.workers as u64,
            open: stats.open as u64,
            waiting: stats.waiting as u64,
            answered: stats.answered,
            refused: stats.refused,
            lost: stats.lost,
        })
    }
}

/// The llm service, asked now.
async fn elsewhere(client: &Client) -> ServiceState {
    let state = match tokio::time::timeout(ANSWER, remote::info(client)).await {
        Ok(Ok(info)) => Ok(info.generator),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} seconds", ANSWER.as_secs())),
    };
    let address = Some(client.front().to_string());
    ServiceState { name: "llm".to_owned(), address, state, proxy: None }
}
