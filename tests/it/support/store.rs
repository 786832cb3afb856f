//! Where ledgers of tests are kept: in SQLite, and in the PostgreSQL that `LEDGER_TEST_POSTGRES` names.

use std::time::Duration;

use onboardflow_gateway::{
    config::Location,
    ledger::Ledger,
    proto::{
        CreateCustomerRequest, CreateCustomerResponse,
        customer_service_client::CustomerServiceClient,
    },
    telemetry::LedgerMetrics,
};
use sqlx::{Connection as _, Executor as _};
use tempfile::TempDir;
use tokio::time::sleep;
use tonic::{Code, Request, Response, Status, transport::Channel};

/// Where a ledger is kept, and what it takes to keep it.
pub struct Store {
    pub url: String,
    pub directory: Option<TempDir>,
}

impl Store {
    /// One of each kind that there is here.
    pub fn all() -> Vec<Self> {
        [Self::sqlite()]
            .into_iter()
            .chain(Self::postgres())
            .collect()
    }

    pub fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            url: format!("sqlite:{}/ledger.db", directory.path().display()),
            directory: Some(directory),
        }
    }

    pub fn postgres() -> Option<Self> {
        #[expect(clippy::disallowed_methods, reason = "a test's own setting")]
        let url = std::env::var("LEDGER_TEST_POSTGRES").ok()?;
        Some(Self::at(&url))
    }

    /// As [`Self::all`], each without the rows of other tests.
    pub async fn all_empty() -> Vec<Self> {
        let mut stores = vec![Self::sqlite()];
        if let Some(postgres) = Self::postgres() {
            stores.push(postgres.apart().await);
        }
        stores
    }

    /// A schema of its own in this server.
    async fn apart(self) -> Self {
        sqlx::any::install_default_drivers();
        let mut connection = sqlx::AnyConnection::connect(&self.url).await.unwrap();
        let schema = format!("apart_{:032x}", fastrand::u128(..));
        let create = sqlx::AssertSqlSafe(format!("CREATE SCHEMA {schema}"));
        connection.execute(create).await.unwrap();
        Self::at(&format!("{}?options[search_path]={schema}", self.url))
    }

    pub fn at(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            directory: None,
        }
    }

    /// The ledger there, as one more replica opens it.
    pub fn ledger(&self) -> Ledger {
        Ledger::new(
            &Location::parse(&self.url).unwrap(),
            LedgerMetrics::default(),
        )
        .unwrap()
    }
}

/// Creates a customer, and tries again where a caller should: a busy machine's store may be slow.
pub async fn insist(
    client: &mut CustomerServiceClient<Channel>,
    request: impl Fn() -> Request<CreateCustomerRequest>,
) -> Result<Response<CreateCustomerResponse>, Status> {
    loop {
        match client.create_customer(request()).await {
            Err(status) if matches!(status.code(), Code::Unavailable | Code::Aborted) => {
                sleep(Duration::from_millis(50)).await;
            }
            ended => return ended,
        }
    }
}

/// A UUID that no other test has.
pub fn fresh_id() -> String {
    let bytes = fastrand::u128(..).to_be_bytes();
    uuid::Builder::from_random_bytes(bytes)
        .into_uuid()
        .to_string()
}
