# kubernetes.sh: the manifests, as they are and as Kustomize makes them.

check_kubernetes() {
    local folder=$packaging/kubernetes python files=()
    python=$(dirname "$(realpath "$(command -v kubernetes-validate)")")/python
    files=("$folder"/{job,service,spool}.yaml)
    if command -v kubectl >/dev/null; then
        kubectl kustomize "$folder" >"$work/kustomized.yaml" || die "kubectl kustomize refuses it"
        files+=("$work/kustomized.yaml")
        grep -q "image: towline:$version" "$work/kustomized.yaml" || die "the image's tag is not the version"
    else
        echo "no kubectl: kustomization.yaml is not tried"
    fi
    for release in 1.29 1.32; do
        must kubernetes-validate --strict --quiet -k "$release" "${files[@]}"
    done
    must "$python" "$root/tests/packages/kubernetes.py" "$folder/job.yaml" "$packaging/systemd/towline@.service"
}
