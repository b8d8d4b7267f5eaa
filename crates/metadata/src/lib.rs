//! What the cluster knows and who decides it: records, image, controller.
