#!/usr/bin/env bash
# Compiles the Kubernetes programs, etcd, CoreDNS and pause into DIR.
# Usage: compile.sh DIR KUBERNETES_VERSION
set -euo pipefail
cd "$(dirname "$0")"

out=$1 version=$2
# What the programs answer when asked for their version; kubeadm refuses images that do not match.
flags="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  flags+=" -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=$(cut -d. -f2 <<<"$version")"
  flags+=" -X $package.gitTreeState=clean"
done

# One command, so that Go shares the work between them; nice, because it takes every core for minutes.
mkdir -p "$out"
CGO_ENABLED=0 GOTOOLCHAIN=local nice -n 5 go build -buildvcs=false -trimpath -ldflags "$flags" -o "$out/" \
  k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kubelet,kube-proxy,kubeadm,kubectl} \
  ./etcd ./coredns ./pause
