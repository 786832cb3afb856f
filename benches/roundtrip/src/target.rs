//! What is driven: how each gateway is started, and when it is ready.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{Fallible, envoy, features::Feature, process::Process, tls};

/// The API key that the gateways hold.
pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef01234567";

const START_LIMIT: Duration = Duration::from_secs(10);

/// A binary of the gateway under test.
#[derive(Clone, Debug)]
pub(crate) struct Binary {
    name: String,
    file: PathBuf,
    feature: Feature,
}

impl Binary {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (name, file) = text.split_once('=').ok_or("must be NAME=FILE")?;
        Ok(Self {
            name: name.to_owned(),
            file: file.into(),
            feature: Feature::None,
        })
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Builds the binary as it is shipped.
    pub(crate) fn build() -> Fallible<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let built = Command::new(env!("CARGO"))
            .args([
                "build",
                "--profile",
                "image",
                "--locked",
                "--bin",
                "onboardflow-gateway",
            ])
            .current_dir(&root)
            .env_remove("CARGO_TARGET_DIR")
            .status()?;
        if !built.success() {
            return Err("the gateway could not be built".into());
        }
        Ok(Self {
            name: "gateway".to_owned(),
            file: root.join("target/image/onboardflow-gateway"),
            feature: Feature::None,
        })
    }

    /// The same with a feature.
    pub(crate) fn with(&self, feature: Feature) -> Self {
        Self {
            name: format!("{}{}", self.name, feature.name()),
            file: self.file.clone(),
            feature,
        }
    }
}

/// What is driven.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Floor,
    Textbook,
    Envoy(PathBuf),
    Gateway(Binary),
}

impl Target {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Floor => "floor",
            Self::Textbook => "textbook",
            Self::Envoy(_) => "Envoy",
            Self::Gateway(binary) => &binary.name,
        }
    }

    /// What is asked of it besides.
    pub(crate) fn feature(&self) -> Feature {
        match self {
            Self::Floor | Self::Textbook | Self::Envoy(_) => Feature::None,
            Self::Gateway(binary) => binary.feature.clone(),
        }
    }

    fn command(&self, listen: SocketAddr, site: &Site) -> Fallible<Command> {
        let mut command = match self {
            Self::Floor => part("floor", listen, site)?,
            Self::Textbook => part("textbook", listen, site)?,
            Self::Envoy(binary) => {
                envoy::command(binary, listen, site.upstream_address, site.folder())?
            }
            Self::Gateway(binary) => {
                let mut command = Command::new(&binary.file);
                let feature = &binary.feature;
                command
                    .arg("serve")
                    .envs(site.gateway_settings(listen, feature.base_path()))
                    .envs(feature.settings(site.folder())?);
                command
            }
        };
        let log = fs::File::create(site.folder.path().join(format!("{}.log", self.name())))?;
        command.stdout(Stdio::null()).stderr(log);
        Ok(command)
    }
}

/// One of this program's own parts, as a process.
fn part(name: &str, listen: SocketAddr, site: &Site) -> Fallible<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.args([name, "--listen", &listen.to_string()]);
    if name != "upstream" {
        command.args(["--upstream", &site.upstream_address.to_string()]);
    }
    if site.tls {
        command.arg("--tls").arg(site.folder.path());
    }
    Ok(command)
}

/// An upstream, and what the targets in front of it have in common.
pub(crate) struct Site {
    pub(crate) tls: bool,
    folder: TempDir,
    upstream_address: SocketAddr,
    _upstream: Process,
}

impl Site {
    pub(crate) fn start(tls: bool) -> Fallible<Self> {
        let folder = tempfile::tempdir()?;
        tls::write_files(folder.path())?;
        let upstream_address = free_address()?;
        let mut command = Command::new(env::current_exe()?);
        command.args(["upstream", "--listen", &upstream_address.to_string()]);
        if tls {
            command.arg("--tls").arg(folder.path());
        }
        Ok(Self {
            tls,
            upstream_address,
            _upstream: Process::start(&mut command)?,
            folder,
        })
    }

    /// The folder with certificate and key.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Environment rather than flags, so that a build that lacks one of these can be compared.
    fn gateway_settings(&self, listen: SocketAddr, path: &str) -> Vec<(&'static str, String)> {
        let port = self.upstream_address.port();
        let mut settings = vec![
            ("ONBOARDFLOW_LISTEN", listen.to_string()),
            ("ONBOARDFLOW_ADMIN_LISTEN", "127.0.0.1:0".to_owned()),
            ("ONBOARDFLOW_TOKEN", TOKEN.to_owned()),
        ];
        if self.tls {
            let file = |name| self.folder.path().join(name).display().to_string();
            settings.extend([
                (
                    "ONBOARDFLOW_UPSTREAM_URL",
                    format!("https://{}:{port}{path}", tls::HOST),
                ),
                ("ONBOARDFLOW_UPSTREAM_CA", file(tls::CERTIFICATE)),
                ("ONBOARDFLOW_TLS_CERT", file(tls::CERTIFICATE)),
                ("ONBOARDFLOW_TLS_KEY", file(tls::KEY)),
            ]);
        } else {
            settings.push((
                "ONBOARDFLOW_UPSTREAM_URL",
                format!("http://127.0.0.1:{port}{path}"),
            ));
        }
        settings
    }
}

/// A target that runs.
pub(crate) struct Running {
    pub(crate) target: Target,
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
}

impl Running {
    /// Starts a target, and returns once its port is open.
    pub(crate) fn start(target: &Target, site: &Site) -> Fallible<Self> {
        let address = free_address()?;
        let mut process = Process::start(&mut target.command(address, site)?)?;
        let begun = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            process
                .check()
                .map_err(|error| format!("{}: {error}", target.name()))?;
            if begun.elapsed() > START_LIMIT {
                return Err(format!("{} does not open its port", target.name()).into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self {
            target: target.clone(),
            address,
            process,
        })
    }
}

/// How long a target takes from its start until it says SERVING.
pub(crate) async fn time_to_serving(target: &Target, site: &Site) -> Fallible<Duration> {
    let address = free_address()?;
    let endpoint = if site.tls {
        let ca = Certificate::from_pem(fs::read(site.folder().join(tls::CERTIFICATE))?);
        let tls = ClientTlsConfig::new()
            .ca_certificate(ca)
            .domain_name(tls::HOST);
        Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?
    } else {
        Endpoint::from_shared(format!("http://{address}"))?
    };
    let mut command = target.command(address, site)?;
    let begun = Instant::now();
    let _process = Process::start(&mut command)?;
    while begun.elapsed() < START_LIMIT {
        if let Ok(channel) = endpoint.connect().await {
            let request = HealthCheckRequest::default();
            let response = HealthClient::new(channel).check(request).await?;
            if response.into_inner().status() == ServingStatus::Serving {
                return Ok(begun.elapsed());
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Err(format!("{} does not say SERVING", target.name()).into())
}

/// A port that was free just now.
pub(crate) fn free_address() -> Fallible<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
