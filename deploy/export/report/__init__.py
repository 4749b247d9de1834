"""What an int8 export costs and saves, as a page on one's own photographs. May import export and model_server.

segment    one image through one model, as the function would ask it
compare    two segmentations: which instances match, how far they differ
transport  bytes of a request, counted on the wire
folder     the report on a folder of images (files: what it reads and writes)
pictures   overlays and difference maps (histograms, charts: what is counted, drawn)
page       all of it as HTML (page.html, page.css, page.js)
"""
