# Exported models as an image of files. Its context is the folder of models, build/export where build/export/shapes/1 is
# what `.venv/bin/python -m deploy.models.shapes.export int8 --output build/export/shapes` wrote:
# docker build -f deploy/kubernetes/model.Dockerfile -t segment-models:1.0.0 build/export
FROM busybox:1.37.0 AS files
COPY . /models
RUN chmod -R a+rX /models

FROM busybox:1.37.0
COPY --from=files /models /models
USER 10001:10001
