FROM --platform=$BUILDPLATFORM docker.io/library/golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags '-s -w' -o /root-fs/usr/bin/handstamp ./cmd/handstamp
# A program expects these in a root file system: its user, the trusted certificates, a place for data and one for temporary files.
RUN mkdir -p /root-fs/etc/ssl/certs /root-fs/tmp /root-fs/var/lib /state/handstamp \
	&& echo 'nonroot:x:65532:65532:nonroot:/var/lib/handstamp:/sbin/nologin' > /root-fs/etc/passwd \
	&& echo 'nonroot:x:65532:' > /root-fs/etc/group \
	&& cp /etc/ssl/certs/ca-certificates.crt /root-fs/etc/ssl/certs/ \
	&& chmod 1777 /root-fs/tmp && chmod 770 /state/handstamp

FROM scratch
COPY --from=build /root-fs /
COPY --from=build --chown=65532:0 /state /var/lib
# The service makes SQLite's data/ and the secrets in keys/ here; the rest of the file system may be read-only. Any user ID will
# do that has the group 0 (OpenShift), or any at all on a volume that it may write to (fsGroup of Kubernetes).
WORKDIR /var/lib/handstamp
VOLUME /var/lib/handstamp
USER 65532:65532
# The service listens on every interface, so HANDSTAMP_ISSUER has to name the address that clients use.
ENV HANDSTAMP_LISTEN=0.0.0.0:8080
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["/usr/bin/handstamp", "healthcheck"]
ENTRYPOINT ["/usr/bin/handstamp"]
CMD ["serve"]
